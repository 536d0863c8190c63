module letterlock.dev/bench/ends

go 1.24
