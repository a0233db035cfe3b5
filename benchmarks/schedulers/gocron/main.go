// The work of work.py on gocron v2: duration jobs with a start time, its defaults.
package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/go-co-op/gocron/v2"
)

const stride = 7919 // as in work.py

type job struct {
	Jobs     int64  `json:"jobs"`
	PeriodMs int64  `json:"period_ms"`
	BeginMs  int64  `json:"begin_ms"`
	FromMs   int64  `json:"from_ms"`
	ToMs     int64  `json:"to_ms"`
	Answer   string `json:"answer"`
}

type answer struct {
	SetupS     float64 `json:"setup_s"`
	LatenessUs []int64 `json:"lateness_us"`
}

func say(event string) { fmt.Printf("{\"event\": %q}\n", event) }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func main() {
	go func() {
		io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	var asked job
	check(json.Unmarshal([]byte(os.Args[1]), &asked))
	began := time.Now()

	var mutex sync.Mutex
	late := make([]int64, 0, 1<<20)
	periodUs := asked.PeriodMs * 1000
	body := func(firstUs int64) {
		nowUs := time.Now().UnixMicro()
		if nowUs < asked.FromMs*1000 || nowUs >= asked.ToMs*1000 {
			return
		}
		// The nearest of its due times: k periods after the first.
		by := (nowUs - firstUs + periodUs/2) % periodUs
		if by < 0 {
			by += periodUs
		}
		mutex.Lock()
		late = append(late, by-periodUs/2)
		mutex.Unlock()
	}

	scheduler, err := gocron.NewScheduler(gocron.WithLocation(time.UTC))
	check(err)
	for number := int64(0); number < asked.Jobs; number++ {
		firstMs := asked.BeginMs + number*stride%asked.Jobs*asked.PeriodMs/asked.Jobs
		_, err = scheduler.NewJob(
			gocron.DurationJob(time.Duration(asked.PeriodMs)*time.Millisecond),
			gocron.NewTask(body, firstMs*1000),
			gocron.WithStartAt(gocron.WithStartDateTime(time.UnixMilli(firstMs))),
		)
		check(err)
	}
	scheduler.Start()
	setup := time.Since(began).Seconds()
	say("ready")
	time.Sleep(time.Until(time.UnixMilli(asked.FromMs)))
	say("first")
	time.Sleep(time.Until(time.UnixMilli(asked.ToMs)))
	say("last")
	time.Sleep(100 * time.Millisecond) // what is under way
	mutex.Lock()
	text, err := json.Marshal(answer{setup, late})
	check(err)
	check(os.WriteFile(asked.Answer, text, 0o644))
	say("written")
	select {}
}
