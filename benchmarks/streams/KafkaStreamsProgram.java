import com.fasterxml.jackson.core.JsonFactory;
import com.fasterxml.jackson.core.JsonParser;
import com.fasterxml.jackson.core.JsonToken;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Map;
import java.util.Properties;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.processor.StateRestoreListener;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/** The work of work.py on Kafka Streams; see kafka_streams.py for the settings and their reasons. */
public final class KafkaStreamsProgram {
    static final JsonFactory JSON = new JsonFactory();
    static final AtomicLong DONE = new AtomicLong();

    static void say(String event) {
        System.out.println("{\"event\": \"" + event + "\"}");
        System.out.flush();
    }

    /** Parses the whole record, field by field; returns at_ms. */
    static long parse(byte[] value) {
        String device = null;
        long seq = -1;
        long atMs = -1;
        double number = Double.NaN;
        try (JsonParser parser = JSON.createParser(value)) {
            parser.nextToken();
            while (parser.nextToken() == JsonToken.FIELD_NAME) {
                String name = parser.currentName();
                parser.nextToken();
                switch (name) {
                    case "device" -> device = parser.getText();
                    case "seq" -> seq = parser.getLongValue();
                    case "at_ms" -> atMs = parser.getLongValue();
                    case "value" -> number = parser.getDoubleValue();
                    default -> parser.skipChildren();
                }
            }
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        if (device == null || seq < 0 || atMs < 0 || Double.isNaN(number)) {
            throw new IllegalStateException("not a record");
        }
        return atMs;
    }

    /** One task's work. */
    static final class Work implements Processor<byte[], byte[], byte[], byte[]> {
        private final boolean stateful;
        private final boolean forwards;
        private final long records;
        private final long share;
        private ProcessorContext<byte[], byte[]> context;
        private KeyValueStore<byte[], byte[]> store;
        private long done;

        Work(String wanted, long records, int partitions) {
            this.stateful = !wanted.equals("consume");
            this.forwards = wanted.equals("state-exactly-once");
            this.records = records;
            this.share = records / partitions;
        }

        @Override
        public void init(ProcessorContext<byte[], byte[]> given) {
            context = given;
            store = stateful ? given.getStateStore("counts") : null;
        }

        @Override
        public void process(Record<byte[], byte[]> record) {
            long total = DONE.incrementAndGet();
            if (total == 1) {
                say("first");
            }
            long atMs = parse(record.value());
            if (stateful) {
                byte[] row = store.get(record.key());
                long count = row == null ? 0 : ByteBuffer.wrap(row).getLong();
                byte[] next = ByteBuffer.allocate(16).putLong(count + 1).putLong(atMs).array();
                store.put(record.key(), next);
                if (forwards) {
                    context.forward(record.withValue(next));
                }
            }
            if (++done == share) {
                context.commit(); // the interval may be long, and the bench waits for the commit
            }
            if (total == records) {
                say("last");
            }
        }
    }

    /** Says when the table begins to come back and when it is there. */
    static final class Restored implements StateRestoreListener {
        private final AtomicInteger begun = new AtomicInteger();
        private final AtomicInteger ended = new AtomicInteger();
        private final int partitions;

        Restored(int partitions) {
            this.partitions = partitions;
        }

        @Override
        public void onRestoreStart(TopicPartition at, String store, long from, long to) {
            if (begun.incrementAndGet() == 1) {
                say("first");
            }
        }

        @Override
        public void onBatchRestored(TopicPartition at, String store, long end, long count) {}

        @Override
        public void onRestoreEnd(TopicPartition at, String store, long count) {
            if (ended.incrementAndGet() == partitions) {
                say("last");
            }
        }
    }

    static Topology topology(String wanted, String source, String sink, long records, int parts) {
        ByteArrayDeserializer bytes = new ByteArrayDeserializer();
        Topology made = new Topology();
        made.addSource("in", bytes, bytes, source);
        made.addProcessor("work", () -> new Work(wanted, records, parts), "in");
        if (!wanted.equals("consume")) {
            made.addStateStore(
                    Stores.keyValueStoreBuilder(
                                    Stores.persistentKeyValueStore("counts"),
                                    Serdes.ByteArray(),
                                    Serdes.ByteArray())
                            .withCachingDisabled()
                            .withLoggingEnabled(Map.of()),
                    "work");
        }
        if (wanted.equals("state-exactly-once")) {
            ByteArraySerializer out = new ByteArraySerializer();
            made.addSink("out", sink, out, out, "work");
        }
        return made;
    }

    public static void main(String[] arguments) throws Exception {
        JsonNode job = new ObjectMapper().readTree(arguments[0]);
        String prefix = job.get("namespace").asText() + ".";
        String wanted = job.get("case").asText();
        int parts = job.get("partitions").asInt();
        Properties settings = new Properties();
        for (Map.Entry<String, JsonNode> one : job.get("settings").properties()) {
            settings.put(one.getKey(), one.getValue().asText());
        }
        settings.put(StreamsConfig.APPLICATION_ID_CONFIG, prefix + job.get("group").asText());
        settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, job.get("bootstrap").asText());
        settings.put(StreamsConfig.STATE_DIR_CONFIG, job.get("folder").asText());
        Topology topology =
                topology(
                        wanted,
                        prefix + job.get("source").asText(),
                        prefix + job.get("sink").asText(),
                        job.get("records").asLong(),
                        parts);
        KafkaStreams streams = new KafkaStreams(topology, settings);
        if (wanted.equals("recovery")) {
            streams.setGlobalStateRestoreListener(new Restored(parts));
        }
        streams.setUncaughtExceptionHandler(
                error -> {
                    error.printStackTrace();
                    Runtime.getRuntime().halt(1);
                    return null;
                });
        streams.start();
        while (System.in.read() >= 0) {
            // nothing is said to us: it closes when the bench has seen enough, or is gone
        }
        Runtime.getRuntime().halt(0);
    }
}
