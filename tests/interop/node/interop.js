// A client by strangers: kafkajs, avsc and the schema files, nothing else.
//
//   golden SCHEMAS GOLDEN
//     the ids found, then each golden file as JSON and encoded again
//   chain KAFKA PREFIX SCHEMAS REGISTRY DEVICE COUNT
//     publish a schedule, see it accepted, read COUNT results, cancel it; REGISTRY is the URL of a
//     Schema Registry, or "-" for none
import avro from "avsc";
import { randomUUID } from "node:crypto";
import { readdirSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { Kafka, logLevel } from "kafkajs";

// A long of Avro has 64 bits, a number of JavaScript 53: ids and checksums need BigInt.
const long = avro.types.LongType.__with({
  fromBuffer: (bytes) => bytes.readBigInt64LE(),
  toBuffer: (value) => {
    const bytes = Buffer.alloc(8);
    bytes.writeBigInt64LE(BigInt(value));
    return bytes;
  },
  fromJSON: BigInt,
  toJSON: (value) => value,
  isValid: (value) => typeof value === "bigint" || Number.isSafeInteger(value),
  compare: (a, b) => (a < b ? -1 : a > b ? 1 : 0),
});

const files = (folder, ending) =>
  readdirSync(folder, { recursive: true })
    .filter((name) => name.endsWith(ending))
    .sort()
    .map((name) => join(folder, name));
const read = (path) => JSON.parse(readFileSync(path, "utf8"));
const typeOf = (schema, more = {}) =>
  avro.Type.forSchema(schema, { registry: { long }, wrapUnions: "auto", ...more });
const show = (line) =>
  console.log(
    JSON.stringify(line, (_, value) => (typeof value === "bigint" ? JSON.rawJSON(value) : value)),
  );

class Client {
  constructor(folder, registry) {
    this.registry = registry === "-" ? "" : registry;
    this.current = new Map();
    this.writers = new Map();
    // avsc asks the hook for a name that it does not know: the file of that name tells.
    const known = new Map(
      files(join(folder, "avro"), ".avsc").map((path) => {
        const schema = read(path);
        return [`${schema.namespace}.${schema.name}`, schema];
      }),
    );
    for (const [name, schema] of known) {
      const typeHook = (part, options) =>
        typeof part === "string" && known.has(part) && !options.registry[part]
          ? avro.Type.forSchema(known.get(part), options)
          : undefined;
      this.current.set(name, typeOf(schema, { typeHook }));
    }
    for (const path of files(join(folder, "released"), ".avsc")) {
      const type = typeOf(read(path));
      this.writers.set(fingerprint(type), type);
    }
  }

  async get(path) {
    const answer = await fetch(this.registry + path);
    if (!answer.ok) throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  }

  async idOf(name) {
    if (!this.registry) return fingerprint(this.current.get(name));
    return (await this.get(`/subjects/${name}/versions/latest`)).id;
  }

  async writerOf(id) {
    if (!this.writers.has(id) && this.registry) {
      this.writers.set(id, typeOf(JSON.parse((await this.get(`/schemas/ids/${id}`)).schema)));
    }
    if (!this.writers.has(id)) throw new Error(`no schema has the id ${id}`);
    return this.writers.get(id);
  }

  encode(name, record, id) {
    const header = Buffer.alloc(5);
    header.writeInt32BE(id, 1);
    return Buffer.concat([header, this.current.get(name).toBuffer(record)]);
  }

  async decode(data) {
    if (data[0] !== 0) throw new Error(`not Confluent's wire format: ${data.toString("hex")}`);
    const writer = await this.writerOf(data.readInt32BE(1));
    const reader = this.current.get(writer.name);
    const record = reader.fromBuffer(data.subarray(5), reader.createResolver(writer));
    return { name: writer.name, record };
  }
}

function fingerprint(type) {
  return type.fingerprint("sha256").readUInt32BE() & 0x7fffffff;
}

function plain(value) {
  if (Buffer.isBuffer(value)) return value.toString("hex");
  if (Array.isArray(value)) return value.map(plain);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, plain(one)]));
}

async function golden(client, folder) {
  const types = [...client.current];
  show({ ids: Object.fromEntries(types.map(([name, type]) => [name, fingerprint(type)])) });
  for (const path of files(folder, ".hex")) {
    const data = Buffer.from(readFileSync(path, "utf8").trim(), "hex");
    const { name, record } = await client.decode(data);
    const again = client.encode(name, record, fingerprint(client.current.get(name)));
    show({ file: basename(path), value: plain(record), again: again.toString("hex") });
  }
}

async function chain(client, brokers, prefix, device, count) {
  const kafka = new Kafka({ brokers: [brokers], logLevel: logLevel.ERROR });
  const producer = kafka.producer();
  const consumer = kafka.consumer({ groupId: randomUUID() }); // reads committed unless told
  const results = `${prefix}capture.results`;
  let wanted = null;
  const await_ = (request, count) =>
    new Promise((resolve, reject) => (wanted = { request, count, resolve, reject }));
  const take = async (topic, partition, message) => {
    const { name, record } = await client.decode(message.value);
    if (record.device_id !== device) return;
    const offset = Number(message.offset);
    show({ topic, partition, offset, record: name, value: plain(record) });
    if (topic === results) wanted.count -= 1;
    else if (record.request_id === wanted.request) wanted.request = null;
    if (wanted.request === null && wanted.count <= 0) wanted.resolve();
  };
  const publish = async (name, event) => {
    const value = client.encode(name, event, await client.idOf(name));
    const topic = `${prefix}schedule.events`;
    const [placed] = await producer.send({ topic, messages: [{ key: device, value }] });
    const { record } = await client.decode(value);
    const [partition, offset] = [placed.partition, Number(placed.baseOffset)];
    show({ topic, partition, offset, record: name, value: plain(record) });
  };
  await Promise.all([producer.connect(), consumer.connect()]);
  await consumer.subscribe({ topics: [`${prefix}schedule.decisions`, results], fromBeginning: true });
  let done = await_(randomUUID(), count);
  const fresh = { device_id: device, schedule_id: "interop" };
  await publish("shutterwheel.ScheduleUpserted", {
    ...fresh,
    request_id: wanted.request,
    spec: { kind: "interval", every_ms: 500 },
    policy: { lead_ms: 1000 },
    published_at_ms: Date.now(),
  });
  await consumer.run({
    eachMessage: ({ topic, partition, message }) =>
      take(topic, partition, message).catch((error) => wanted.reject(error)),
  });
  await done;
  done = await_(randomUUID(), 0);
  await publish("shutterwheel.ScheduleCancelled", {
    ...fresh,
    request_id: wanted.request,
    published_at_ms: Date.now(),
  });
  await done;
  await Promise.all([producer.disconnect(), consumer.disconnect()]);
}

const [what, ...given] = process.argv.slice(2);
if (what === "golden") await golden(new Client(given[0], "-"), given[1]);
else await chain(new Client(given[2], given[3]), given[0], given[1], given[4], Number(given[5]));
