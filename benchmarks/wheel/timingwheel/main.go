// RussellLuo/timingwheel with the slots of its documentation: 1 ms, 20 a wheel. What expires runs
// in a goroutine of its own. Arguments: timers, window_ms, lead_ms.
package main

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/RussellLuo/timingwheel"
)

const golden = 2654435761

var lateNs, earlyNs atomic.Int64

func atLeast(most *atomic.Int64, value int64) {
	for {
		old := most.Load()
		if value <= old || most.CompareAndSwap(old, value) {
			return
		}
	}
}

func number(position int) int64 {
	value, err := strconv.ParseInt(os.Args[position], 10, 64)
	if err != nil {
		panic(err)
	}
	return value
}

func used() int64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return int64(stats.HeapAlloc)
}

func cpuNs() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

func main() {
	timers, windowMs, leadMs := number(1), number(2), number(3)
	wheel := timingwheel.NewTimingWheel(time.Millisecond, 20)
	wheel.Start()
	var left sync.WaitGroup
	left.Add(int(timers))
	before := used()
	start := time.Now().Truncate(time.Millisecond).Add(time.Duration(leadMs) * time.Millisecond)
	began := time.Now()
	for i := int64(0); i < timers; i++ {
		offset := 1 + (int64(uint32(i*golden)) * windowMs >> 32)
		due := start.Add(time.Duration(offset) * time.Millisecond)
		wheel.AfterFunc(time.Until(due), func() {
			late := time.Since(due).Nanoseconds()
			atLeast(&lateNs, late)
			atLeast(&earlyNs, -late)
			left.Done()
		})
	}
	insertNs := float64(time.Since(began).Nanoseconds()) / float64(timers)
	bytes := float64(used()-before) / float64(timers)
	time.Sleep(time.Until(start))
	cpu := cpuNs()
	left.Wait()
	expireNs := float64(cpuNs()-cpu) / float64(timers)
	fmt.Printf(
		"{\"insert_ns\": %.1f, \"expire_ns\": %.1f, \"bytes_per_timer\": %.1f, "+
			"\"worst_tick_ms\": %.3f, \"early_ms_max\": %.3f}\n",
		insertNs, expireNs, bytes, float64(lateNs.Load())/1e6, float64(earlyNs.Load())/1e6)
}
