module letterlock.dev/tests/strict

go 1.24
