import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Random;
import java.util.Set;
import org.apache.kafka.common.utils.Utils;

/** Prints golden vectors of Kafka's own partitioner hash as JSON; see README.md beside this file. */
public final class Murmur2Golden {
    private static Set<String> texts() {
        Set<String> keys = new LinkedHashSet<>();
        StringBuilder run = new StringBuilder();
        for (int length = 0; length <= 40; length++) {
            keys.add(run.toString());
            run.append((char) ('a' + length % 26));
        }
        for (int n = 0; n < 60; n++) {
            keys.add(String.format("cam-%06d", n * 7919));
        }
        for (int n = 0; n < 40; n++) {
            keys.add(String.format("site-%02d/line-%d/device-%04d", n % 7, n % 3, n));
        }
        for (String word : List.of("\u00fc", "\u00e4\u00f6\u00fc\u00df", "\u6444\u50cf\u5934-42",
                "\u041a\u0430\u043c\u0435\u0440\u0430", "\uD83D\uDCF7", "\uD83D\uDCF7\uD83D\uDCF7",
                "e\u0301", "\u00e9", "\u0000", "\u0000a", "a\u0000", "\u007f", "\u0080", "\uffff")) {
            keys.add(word);
            keys.add("device-" + word);
            keys.add(word + "-1");
        }
        keys.add("x".repeat(256));
        keys.add("y".repeat(1023));
        return keys;
    }

    /** Bytes above 127 in every place of the four-byte step and of the tail: signs matter there. */
    private static List<byte[]> binary() {
        List<byte[]> keys = new ArrayList<>();
        Random random = new Random(42);
        for (int length = 1; length <= 40; length++) {
            byte[] key = new byte[length];
            random.nextBytes(key);
            keys.add(key);
            byte[] high = new byte[length];
            java.util.Arrays.fill(high, (byte) 0xff);
            keys.add(high);
        }
        return keys;
    }

    public static void main(String[] arguments) {
        List<byte[]> keys = new ArrayList<>();
        for (String text : texts()) {
            keys.add(text.getBytes(StandardCharsets.UTF_8));
        }
        keys.addAll(binary());
        System.out.println("[");
        for (int n = 0; n < keys.size(); n++) {
            int hash = Utils.murmur2(keys.get(n));
            int positive = Utils.toPositive(hash);
            System.out.printf(
                "{\"key_hex\": \"%s\", \"murmur2\": %d, \"positive\": %d, \"shard\": %d}%s%n",
                HexFormat.of().formatHex(keys.get(n)), hash, positive, positive & 1023,
                n + 1 < keys.size() ? "," : "");
        }
        System.out.println("]");
    }
}
