import java.util.Locale;
import java.util.concurrent.CountDownLatch;
import org.apache.kafka.common.utils.Time;
import org.apache.kafka.server.util.timer.SystemTimer;
import org.apache.kafka.server.util.timer.TimerTask;

/**
 * Kafka's SystemTimer, as the purgatory uses it: slots of 1 ms, 20 a wheel, a thread that advances
 * the clock and one that runs what has expired. Arguments: timers, window_ms, lead_ms.
 */
public final class SystemTimerProgram {
    private static final long GOLDEN = 2654435761L;
    private static double lateMs = 0;
    private static double earlyMs = 0;
    private static int left;
    private static CountDownLatch done = new CountDownLatch(1);

    private static final class Task extends TimerTask {
        private final long dueMs;

        Task(long dueMs, long nowMs) {
            super(dueMs - nowMs);
            this.dueMs = dueMs;
        }

        @Override
        public void run() {  // in one thread, SystemTimer's
            double late = System.nanoTime() / 1e6 - dueMs;
            lateMs = Math.max(lateMs, late);
            earlyMs = Math.max(earlyMs, -late);
            if (--left == 0) {
                done.countDown();
            }
        }
    }

    private static long used() throws InterruptedException {
        for (int i = 0; i < 3; i++) {
            System.gc();
            Thread.sleep(50);
        }
        return Runtime.getRuntime().totalMemory() - Runtime.getRuntime().freeMemory();
    }

    private static long cpuNs() {
        var bean = java.lang.management.ManagementFactory.getOperatingSystemMXBean();
        return ((com.sun.management.OperatingSystemMXBean) bean).getProcessCpuTime();
    }

    public static void main(String[] args) throws Exception {
        int timers = Integer.parseInt(args[0]);
        long windowMs = Long.parseLong(args[1]);
        long leadMs = Long.parseLong(args[2]);
        warm();
        left = timers;
        done = new CountDownLatch(1);
        lateMs = earlyMs = 0;
        SystemTimer timer = new SystemTimer("bench");
        long before = used();
        long startMs = Time.SYSTEM.hiResClockMs() + leadMs;
        long began = System.nanoTime();
        fill(timer, timers, windowMs, startMs);
        double insertNs = (double) (System.nanoTime() - began) / timers;
        double bytes = (double) (used() - before) / timers;
        long waitMs = startMs - Time.SYSTEM.hiResClockMs();
        if (waitMs > 0) {
            Thread.sleep(waitMs);
        }
        long cpu = cpuNs();
        advance(timer);
        double expireNs = (double) (cpuNs() - cpu) / timers;
        System.out.printf(
            Locale.ROOT,
            "{\"insert_ns\": %.1f, \"expire_ns\": %.1f, \"bytes_per_timer\": %.1f,"
                + " \"worst_tick_ms\": %.3f, \"early_ms_max\": %.3f}%n",
            insertNs, expireNs, bytes, lateMs, earlyMs);
        System.exit(0);
    }

    private static void fill(SystemTimer timer, int timers, long windowMs, long startMs) {
        for (int i = 0; i < timers; i++) {
            long offset = 1 + (((i * GOLDEN) & 0xFFFFFFFFL) * windowMs >>> 32);
            timer.add(new Task(startMs + offset, Time.SYSTEM.hiResClockMs()));
        }
    }

    private static void advance(SystemTimer timer) throws Exception {
        while (done.getCount() > 0) {
            timer.advanceClock(20);
        }
    }

    /** Lets the compiler see the work first: it is not what is measured. */
    private static void warm() throws Exception {
        left = 200_000;
        SystemTimer timer = new SystemTimer("warm");
        fill(timer, left, 200, Time.SYSTEM.hiResClockMs() + 300);
        advance(timer);
        timer.close();
    }
}
