// The two ends of the bench, SMTP over STARTTLS: a load generator and a sink.
//
// Written in Go so that both ends take little of the machine that they share with what is measured. The bench builds
// it and speaks with it: flags in, JSON out. Nothing of it is part of the product.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"syscall"
	"time"
)

func main() {
	// Both ends need less than half of a processor. With two, Go's scheduler looks for work on the other one, and
	// takes that from what is measured. Garbage is collected where there is much of it.
	runtime.GOMAXPROCS(1)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(256 << 20)
	if len(os.Args) < 2 {
		fail(fmt.Errorf("usage: ends load|sink FLAGS"))
	}
	switch os.Args[1] {
	case "load":
		load(os.Args[2:])
	case "sink":
		sink(os.Args[2:])
	default:
		fail(fmt.Errorf("%s: neither load nor sink", os.Args[1]))
	}
}

func fail(problem error) {
	fmt.Fprintln(os.Stderr, problem)
	os.Exit(1)
}

func say(value any) {
	if err := json.NewEncoder(os.Stdout).Encode(value); err != nil {
		fail(err)
	}
}

// now is Unix time in seconds: one clock for both ends and for the bench.
func now() float64 {
	return float64(time.Now().UnixNano()) / 1e9
}

// cpu is user and system time of this process, seconds.
func cpu() float64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		return 0
	}
	spent := usage.Utime.Nano() + usage.Stime.Nano()
	return float64(spent) / 1e9
}
