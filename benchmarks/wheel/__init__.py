"""Our timing wheel beside other timers: the same timers, due at the same times, in real time."""
