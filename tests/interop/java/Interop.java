import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.ByteArrayOutputStream;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.HexFormat;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;
import java.util.stream.Stream;
import org.apache.avro.Schema;
import org.apache.avro.SchemaNormalization;
import org.apache.avro.SchemaParser;
import org.apache.avro.generic.GenericData;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.generic.IndexedRecord;
import org.apache.avro.io.BinaryDecoder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.DecoderFactory;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/**
 * A client by strangers: Apache Avro, kafka-clients and the schema files, nothing else.
 *
 * <p>golden SCHEMAS GOLDEN: the ids found, then each golden file as JSON and encoded again.
 *
 * <p>chain KAFKA PREFIX SCHEMAS REGISTRY DEVICE COUNT: publish a schedule, see it accepted, read
 * COUNT results, cancel it. REGISTRY is the URL of a Schema Registry, or "-" for none.
 */
public final class Interop {
    private static final ObjectMapper JSON = new ObjectMapper();
    private static final HttpClient HTTP = HttpClient.newHttpClient();

    private final String registry;
    private final Map<String, Schema> current = new TreeMap<>();
    private final Map<Integer, Schema> writers = new HashMap<>();

    private Interop(Path schemas, String registry) throws Exception {
        this.registry = registry.equals("-") ? "" : registry;
        SchemaParser parser = new SchemaParser();
        List<SchemaParser.ParseResult> results = new ArrayList<>();
        for (Path path : files(schemas.resolve("avro"), ".avsc")) {
            results.add(parser.parse(path));
        }
        for (SchemaParser.ParseResult result : results) {
            current.put(result.mainSchema().getFullName(), result.mainSchema());
        }
        for (Path path : files(schemas.resolve("released"), ".avsc")) {
            Schema schema = new SchemaParser().parse(path).mainSchema();
            writers.put(fingerprint(schema), schema);
        }
    }

    private static List<Path> files(Path folder, String ending) throws Exception {
        try (Stream<Path> found = Files.walk(folder)) {
            return found.filter(path -> path.toString().endsWith(ending)).sorted().toList();
        }
    }

    // --- the wire format -------------------------------------------------------------------------

    private static int fingerprint(Schema schema) throws Exception {
        byte[] digest = SchemaNormalization.parsingFingerprint("SHA-256", schema);
        return ByteBuffer.wrap(digest).getInt() & 0x7fffffff;
    }

    private int idOf(Schema schema) throws Exception {
        if (registry.isEmpty()) {
            return fingerprint(schema);
        }
        String subject = "/subjects/" + schema.getFullName() + "/versions/latest";
        return JSON.readTree(get(subject)).get("id").asInt();
    }

    private Schema writerOf(int id) throws Exception {
        if (!registry.isEmpty() && !writers.containsKey(id)) {
            String text = JSON.readTree(get("/schemas/ids/" + id)).get("schema").asText();
            writers.put(id, new Schema.Parser().parse(text));
        }
        if (!writers.containsKey(id)) {
            throw new IllegalStateException("no schema has the id " + id);
        }
        return writers.get(id);
    }

    private String get(String path) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(registry + path)).build();
        HttpResponse<String> answer = HTTP.send(request, HttpResponse.BodyHandlers.ofString());
        if (answer.statusCode() != 200) {
            throw new IllegalStateException(path + ": " + answer.statusCode() + answer.body());
        }
        return answer.body();
    }

    private byte[] encode(IndexedRecord record, int id) throws Exception {
        ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        bytes.write(ByteBuffer.allocate(5).put((byte) 0).putInt(id).array());
        BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(bytes, null);
        new GenericDatumWriter<IndexedRecord>(record.getSchema()).write(record, encoder);
        encoder.flush();
        return bytes.toByteArray();
    }

    private GenericRecord decode(byte[] data) throws Exception {
        ByteBuffer header = ByteBuffer.wrap(data);
        if (header.get() != 0) {
            throw new IllegalStateException("not Confluent's wire format");
        }
        Schema writer = writerOf(header.getInt());
        Schema reader = current.get(writer.getFullName());
        BinaryDecoder decoder = DecoderFactory.get().binaryDecoder(data, 5, data.length - 5, null);
        GenericRecord record = new GenericDatumReader<GenericRecord>(writer, reader)
            .read(null, decoder);
        if (!decoder.isEnd()) {
            throw new IllegalStateException("bytes are left behind the record");
        }
        return record;
    }

    // --- as JSON ---------------------------------------------------------------------------------

    private static Object plain(Schema schema, Object value) {
        switch (schema.getType()) {
            case RECORD:
                Map<String, Object> fields = new LinkedHashMap<>();
                for (Schema.Field field : schema.getFields()) {
                    Object inner = ((IndexedRecord) value).get(field.pos());
                    fields.put(field.name(), plain(field.schema(), inner));
                }
                return fields;
            case ARRAY:
                List<Object> items = new ArrayList<>();
                for (Object item : (List<?>) value) {
                    items.add(plain(schema.getElementType(), item));
                }
                return items;
            case MAP:
                Map<String, Object> entries = new LinkedHashMap<>();
                ((Map<?, ?>) value)
                    .forEach((key, one) -> entries.put(key.toString(), plain(schema.getValueType(), one)));
                return entries;
            case UNION:
                Schema branch =
                    schema.getTypes().get(GenericData.get().resolveUnion(schema, value));
                Object found = plain(branch, value);
                return schema.isNullable() ? found : Map.of(branch.getFullName(), found);
            case BYTES:
                byte[] bytes = new byte[((ByteBuffer) value).remaining()];
                ((ByteBuffer) value).duplicate().get(bytes);
                return HexFormat.of().formatHex(bytes);
            case STRING:
                return value.toString();
            default:
                return value;
        }
    }

    private static void print(Object... pairs) throws Exception {
        Map<String, Object> line = new LinkedHashMap<>();
        for (int at = 0; at < pairs.length; at += 2) {
            line.put((String) pairs[at], pairs[at + 1]);
        }
        System.out.println(JSON.writeValueAsString(line));
    }

    // --- what it is asked ------------------------------------------------------------------------

    private void golden(Path folder) throws Exception {
        Map<String, Integer> ids = new TreeMap<>();
        for (Schema schema : current.values()) {
            ids.put(schema.getFullName(), fingerprint(schema));
        }
        print("ids", ids);
        for (Path path : files(folder, ".hex")) {
            GenericRecord record = decode(HexFormat.of().parseHex(Files.readString(path).trim()));
            byte[] again = encode(record, fingerprint(record.getSchema()));
            print(
                "file", path.getFileName().toString(),
                "value", plain(record.getSchema(), record),
                "again", HexFormat.of().formatHex(again));
        }
    }

    private void chain(String kafka, String prefix, String device, int count) throws Exception {
        Map<String, Object> settings = new HashMap<>();
        settings.put("bootstrap.servers", kafka);
        settings.put("group.id", UUID.randomUUID().toString());
        settings.put("isolation.level", "read_committed");
        settings.put("auto.offset.reset", "earliest");
        settings.put("enable.auto.commit", false);
        try (KafkaProducer<byte[], byte[]> producer =
                new KafkaProducer<>(
                    Map.of("bootstrap.servers", kafka),
                    new ByteArraySerializer(),
                    new ByteArraySerializer());
            KafkaConsumer<byte[], byte[]> consumer =
                new KafkaConsumer<>(
                    settings, new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            String results = prefix + "capture.results";
            consumer.subscribe(List.of(prefix + "schedule.decisions", results));

            Schema wanted = current.get("shutterwheel.ScheduleUpserted");
            GenericRecord schedule = new GenericData.Record(wanted);
            schedule.put("request_id", UUID.randomUUID().toString());
            schedule.put("device_id", device);
            schedule.put("schedule_id", "interop");
            schedule.put(
                "spec",
                new GenericRecordBuilder(wanted.getField("spec").schema())
                    .set("kind", "interval").set("every_ms", 500L).build());
            schedule.put(
                "policy",
                new GenericRecordBuilder(wanted.getField("policy").schema())
                    .set("lead_ms", 1000L).build());
            schedule.put("published_at_ms", System.currentTimeMillis());
            publish(producer, prefix, schedule);
            await(consumer, schedule, results, count);

            GenericRecord end =
                new GenericData.Record(current.get("shutterwheel.ScheduleCancelled"));
            end.put("request_id", UUID.randomUUID().toString());
            end.put("device_id", device);
            end.put("schedule_id", "interop");
            end.put("published_at_ms", System.currentTimeMillis());
            publish(producer, prefix, end);
            await(consumer, end, results, 0);
        }
    }

    private void publish(KafkaProducer<byte[], byte[]> producer, String prefix, GenericRecord event)
        throws Exception {
        byte[] key = event.get("device_id").toString().getBytes("UTF-8");
        byte[] value = encode(event, idOf(event.getSchema()));
        var placed =
            producer.send(new ProducerRecord<>(prefix + "schedule.events", key, value)).get();
        print(
            "topic", placed.topic(), "partition", placed.partition(), "offset", placed.offset(),
            "record", event.getSchema().getFullName(), "value", plain(event.getSchema(), event));
    }

    /** Print what comes of the device until the request has its answer and so many results came. */
    private void await(
        KafkaConsumer<byte[], byte[]> consumer, GenericRecord request, String results, int count)
        throws Exception {
        boolean decided = false;
        int seen = 0;
        while (!decided || seen < count) {
            for (ConsumerRecord<byte[], byte[]> one : consumer.poll(Duration.ofSeconds(1))) {
                GenericRecord record = decode(one.value());
                if (!record.get("device_id").toString().equals(request.get("device_id"))) {
                    continue;
                }
                print(
                    "topic", one.topic(), "partition", one.partition(), "offset", one.offset(),
                    "record", record.getSchema().getFullName(),
                    "value", plain(record.getSchema(), record));
                seen += one.topic().equals(results) ? 1 : 0;
                decided |=
                    record.hasField("request_id")
                        && !one.topic().equals(results)
                        && record.get("request_id").toString().equals(request.get("request_id"));
            }
        }
    }

    public static void main(String[] args) throws Exception {
        if (args[0].equals("golden")) {
            new Interop(Path.of(args[1]), "-").golden(Path.of(args[2]));
        } else {
            new Interop(Path.of(args[3]), args[4])
                .chain(args[1], args[2], args[5], Integer.parseInt(args[6]));
        }
    }
}
