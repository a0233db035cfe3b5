import java.io.IOException;
import java.io.InputStream;
import java.io.Reader;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.Statement;
import java.time.Instant;
import java.util.Date;
import java.util.HashSet;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.atomic.AtomicInteger;
import org.quartz.Job;
import org.quartz.JobBuilder;
import org.quartz.JobDetail;
import org.quartz.JobExecutionContext;
import org.quartz.Scheduler;
import org.quartz.SimpleScheduleBuilder;
import org.quartz.Trigger;
import org.quartz.TriggerBuilder;
import org.quartz.impl.StdSchedulerFactory;
import org.quartz.utils.DBConnectionManager;

/** The work of work.py on Quartz; see quartz.py for the settings and their reasons. */
public final class QuartzProgram {
    static final int STRIDE = 7_919; // as in work.py
    static final int BATCH = 1_000;
    static final int[] LATE_US = new int[8_000_000];
    static final AtomicInteger KEPT = new AtomicInteger();
    static volatile long fromUs;
    static volatile long toUs;

    static long nowUs() {
        Instant now = Instant.now();
        return now.getEpochSecond() * 1_000_000 + now.getNano() / 1_000;
    }

    /** The body of every job. Quartz makes one of it for each fire. */
    public static final class Stamp implements Job {
        @Override
        public void execute(JobExecutionContext context) {
            long at = nowUs();
            if (at >= fromUs && at < toUs) {
                long late = at - context.getScheduledFireTime().getTime() * 1_000;
                LATE_US[KEPT.getAndIncrement()] = (int) late;
            }
        }
    }

    static void say(String event) {
        System.out.println("{\"event\": \"" + event + "\"}");
        System.out.flush();
    }

    static void endWithInput() {
        Thread thread = new Thread(() -> {
            try {
                while (System.in.read() >= 0) {
                    continue;
                }
            } catch (IOException gone) {
                // the same as its end
            }
            Runtime.getRuntime().halt(0);
        });
        thread.setDaemon(true);
        thread.start();
    }

    static void execute(String... statements) throws Exception {
        try (Connection connection = DBConnectionManager.getInstance().getConnection("bench");
                Statement statement = connection.createStatement()) {
            for (String sql : statements) {
                statement.execute(sql);
            }
        }
    }

    /** Makes the tables by the script that Quartz brings for PostgreSQL. */
    static void makeTables() throws Exception {
        String name = "/org/quartz/impl/jdbcjobstore/tables_postgres.sql";
        try (InputStream in = Scheduler.class.getResourceAsStream(name)) {
            execute(new String(in.readAllBytes(), StandardCharsets.UTF_8));
        }
    }

    /** Writes the triggers from a number on as Quartz wrote the first: copies of its two rows. */
    static void copyTriggers(int from, int jobs, long periodMs, long beginMs) throws Exception {
        String phase = String.format("(n * %d %% %d) * %d / %d", STRIDE, jobs, periodMs, jobs);
        String numbers = String.format("generate_series(%d::bigint, %d) n", from, jobs - 1);
        String first = beginMs + " + " + phase;
        execute(
                "create temp table one as select * from qrtz_triggers where trigger_name = 't0'",
                "create temp table simple as select * from qrtz_simple_triggers"
                        + " where trigger_name = 't0'",
                "insert into qrtz_triggers select r.* from one t, " + numbers
                        + ", lateral jsonb_populate_record(t, jsonb_build_object('trigger_name', 't' || n,"
                        + " 'next_fire_time', " + first + ", 'start_time', " + first + ")) r",
                "analyze qrtz_triggers", // the check of the foreign key takes the index
                "insert into qrtz_simple_triggers select r.* from simple t, " + numbers
                        + ", lateral jsonb_populate_record(t, jsonb_build_object('trigger_name', 't' || n)) r",
                "vacuum analyze");
    }

    static void sleepUntil(long ms) throws InterruptedException {
        Thread.sleep(Math.max(0, ms - System.currentTimeMillis()));
    }

    public static void main(String[] arguments) throws Exception {
        endWithInput();
        Properties asked = new Properties();
        try (Reader reader = Files.newBufferedReader(Path.of(arguments[0]))) {
            asked.load(reader);
        }
        int jobs = Integer.parseInt(asked.getProperty("jobs"));
        long periodMs = Long.parseLong(asked.getProperty("period_ms"));
        long beginMs = Long.parseLong(asked.getProperty("begin_ms"));
        long fromMs = Long.parseLong(asked.getProperty("from_ms"));
        long toMs = Long.parseLong(asked.getProperty("to_ms"));
        fromUs = fromMs * 1_000;
        toUs = toMs * 1_000;

        Scheduler scheduler = new StdSchedulerFactory(asked).getScheduler();
        if (asked.containsKey("org.quartz.dataSource.bench.URL")) {
            makeTables();
        }
        long began = System.nanoTime();
        JobDetail job = JobBuilder.newJob(Stamp.class).withIdentity("stamp").storeDurably().build();
        SimpleScheduleBuilder every =
                SimpleScheduleBuilder.simpleSchedule().withIntervalInMilliseconds(periodMs).repeatForever();
        boolean inDatabase = asked.containsKey("org.quartz.dataSource.bench.URL");
        int registered = inDatabase ? Math.min(jobs, BATCH) : jobs;
        for (int first = 0; first < registered; first += BATCH) {
            Set<Trigger> triggers = new HashSet<>();
            for (int number = first; number < Math.min(registered, first + BATCH); number++) {
                long phaseMs = (long) number * STRIDE % jobs * periodMs / jobs;
                triggers.add(TriggerBuilder.newTrigger()
                        .withIdentity("t" + number)
                        .forJob(job)
                        .startAt(new Date(beginMs + phaseMs))
                        .withSchedule(every)
                        .build());
            }
            scheduler.scheduleJobs(Map.of(job, triggers), true);
        }
        double setupS = (System.nanoTime() - began) / 1e9 * jobs / registered;
        if (inDatabase) {
            copyTriggers(registered, jobs, periodMs, beginMs);
        }
        scheduler.start();
        say("ready");
        sleepUntil(fromMs);
        say("first");
        sleepUntil(toMs);
        say("last");
        Thread.sleep(100); // what is under way
        StringBuilder text = new StringBuilder("{\"setup_s\": " + setupS + ", \"lateness_us\": [");
        int kept = KEPT.get();
        for (int number = 0; number < kept; number++) {
            text.append(number == 0 ? "" : ",").append(LATE_US[number]);
        }
        Files.writeString(Path.of(asked.getProperty("answer")), text.append("]}"));
        say("written");
        Thread.sleep(Long.MAX_VALUE);
    }
}
