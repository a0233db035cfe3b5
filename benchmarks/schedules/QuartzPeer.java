import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.zone.ZoneRulesProvider;
import java.util.ArrayList;
import java.util.Date;
import java.util.List;
import java.util.TimeZone;
import org.quartz.CronExpression;

/**
 * Quartz's CronExpression as a peer. A question a line on standard input, separated by tabs:
 * "fires LINE ZONE START COUNT" is answered by the fires in milliseconds, or by "! reason";
 * "offsets TIMES ZONE 0 0" by the offset of the zone at each time; "cost LINE ZONE START COUNT" by
 * nanoseconds to read and for each next fire. The first answer is the version of the Java
 * runtime's time zones.
 */
public final class QuartzPeer {
    public static void main(String[] arguments) throws Exception {
        System.out.println(ZoneRulesProvider.getVersions("UTC").lastEntry().getKey());
        BufferedReader in =
            new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        StringBuilder out = new StringBuilder();
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            String[] part = line.split("\t");
            TimeZone zone = TimeZone.getTimeZone(part[2]);
            long start = Long.parseLong(part[3]);
            int count = Integer.parseInt(part[4]);
            try {
                out.append(switch (part[0]) {
                    case "fires" -> fires(part[1], zone, start, count);
                    case "offsets" -> offsets(part[1], zone);
                    default -> cost(part[1], zone, start, count);
                });
            } catch (Exception error) {
                out.append("! ").append(String.valueOf(error.getMessage()).replace('\n', ' '));
            }
            out.append('\n');
        }
        System.out.print(out);
    }

    private static String fires(String text, TimeZone zone, long start, int count)
            throws Exception {
        CronExpression expression = read(text, zone);
        List<String> found = new ArrayList<>();
        Date time = new Date(start);
        for (int n = 0; n < count; n++) {
            time = expression.getNextValidTimeAfter(time);
            if (time == null) {
                break;
            }
            found.add(Long.toString(time.getTime()));
        }
        return String.join(" ", found);
    }

    private static String offsets(String times, TimeZone zone) {
        List<String> found = new ArrayList<>();
        for (String time : times.split(" ")) {
            found.add(Integer.toString(zone.getOffset(Long.parseLong(time))));
        }
        return String.join(" ", found);
    }

    private static CronExpression read(String text, TimeZone zone) throws Exception {
        CronExpression expression = new CronExpression(text);
        expression.setTimeZone(zone);
        return expression;
    }

    private static long walk(CronExpression expression, long start, int count) {
        Date time = new Date(start);
        for (int n = 0; n < count; n++) {
            Date next = expression.getNextValidTimeAfter(time);
            time = next == null ? new Date(start) : next;
        }
        return time.getTime();
    }

    private static String cost(String text, TimeZone zone, long start, int count)
            throws Exception {
        long sum = 0;
        for (int n = 0; n < 20; n++) {
            sum += walk(read(text, zone), start, count); // so that the compiler is done
        }
        long began = System.nanoTime();
        for (int n = 0; n < 1_000; n++) {
            sum += walk(read(text, zone), start, 1);
        }
        long first = (System.nanoTime() - began) / 1_000;
        CronExpression expression = read(text, zone);
        began = System.nanoTime();
        sum += walk(expression, start, count);
        long next = (System.nanoTime() - began) / count;
        return first + " " + next + " " + (sum == 42 ? "" : "");
    }
}
