// A client by strangers: franz-go, hamba/avro and the schema files, nothing else.
//
//	golden SCHEMAS GOLDEN
//	  the ids found, then each golden file as JSON and encoded again
//	chain KAFKA PREFIX SCHEMAS REGISTRY DEVICE COUNT
//	  publish a schedule, see it accepted, read COUNT results, cancel it; REGISTRY is the URL of a
//	  Schema Registry, or "-" for none
package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
	"time"

	"github.com/hamba/avro/v2"
	"github.com/twmb/franz-go/pkg/kgo"
)

type fields = map[string]any

type client struct {
	registry string
	current  map[string]avro.Schema
	writers  map[uint32]avro.Schema
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func must[T any](value T, err error) T {
	check(err)
	return value
}

// --- schemas ------------------------------------------------------------------------------------

func newClient(folder, registry string) *client {
	c := &client{
		strings.TrimPrefix(registry, "-"), map[string]avro.Schema{}, map[uint32]avro.Schema{},
	}
	for _, path := range must(filepath.Glob(filepath.Join(folder, "avro", "*.avsc"))) {
		name := "shutterwheel." + strings.TrimSuffix(filepath.Base(path), ".avsc")
		c.current[name] = load(folder, name, &avro.SchemaCache{})
	}
	for _, path := range must(filepath.Glob(filepath.Join(folder, "released", "*", "*.avsc"))) {
		text := string(must(os.ReadFile(path)))
		schema := must(avro.ParseWithCache(text, "", &avro.SchemaCache{}))
		c.writers[fingerprint(schema)] = schema
	}
	return c
}

// load parses a file after those that it refers to: hamba/avro knows a name once it was parsed.
// Each record has a cache of its own: what is parsed later into the same one changes what is there,
// so that a type stands as a mere name in it and the fingerprint is another.
func load(folder, name string, cache *avro.SchemaCache) avro.Schema {
	if known := cache.Get(name); known != nil {
		return known
	}
	file := strings.TrimPrefix(name, "shutterwheel.") + ".avsc"
	text := must(os.ReadFile(filepath.Join(folder, "avro", file)))
	var tree any
	check(json.Unmarshal(text, &tree))
	for _, other := range references(tree) {
		load(folder, other, cache)
	}
	return must(avro.ParseBytesWithCache(text, "", cache))
}

func references(node any) (found []string) {
	switch node := node.(type) {
	case string:
		if strings.HasPrefix(node, "shutterwheel.") {
			found = append(found, node)
		}
	case []any:
		for _, one := range node {
			found = append(found, references(one)...)
		}
	case fields:
		for _, key := range []string{"type", "items", "values", "fields"} {
			found = append(found, references(node[key])...)
		}
	}
	return found
}

// --- the wire format ----------------------------------------------------------------------------

func fingerprint(schema avro.Schema) uint32 {
	digest := sha256.Sum256([]byte(schema.String())) // String is the Parsing Canonical Form
	return binary.BigEndian.Uint32(digest[:]) & 0x7fffffff
}

func (c *client) get(path string, into any) {
	answer := must(http.Get(c.registry + path))
	defer answer.Body.Close()
	body := must(io.ReadAll(answer.Body))
	if answer.StatusCode != http.StatusOK {
		check(fmt.Errorf("%s: %s %s", path, answer.Status, body))
	}
	check(json.Unmarshal(body, into))
}

func (c *client) idOf(name string) uint32 {
	if c.registry == "" {
		return fingerprint(c.current[name])
	}
	var found struct{ ID uint32 }
	c.get("/subjects/"+name+"/versions/latest", &found)
	return found.ID
}

func (c *client) writerOf(id uint32) avro.Schema {
	if c.writers[id] == nil && c.registry != "" {
		var found struct{ Schema string }
		c.get("/schemas/ids/"+strconv.Itoa(int(id)), &found)
		c.writers[id] = must(avro.ParseWithCache(found.Schema, "", &avro.SchemaCache{}))
	}
	if c.writers[id] == nil {
		check(fmt.Errorf("no schema has the id %d", id))
	}
	return c.writers[id]
}

func (c *client) encode(name string, record fields, id uint32) []byte {
	return append(
		binary.BigEndian.AppendUint32([]byte{0}, id),
		must(avro.Marshal(c.current[name], record))...)
}

func (c *client) decode(data []byte) (string, fields) {
	if data[0] != 0 {
		check(fmt.Errorf("not Confluent's wire format: %x", data))
	}
	writer := c.writerOf(binary.BigEndian.Uint32(data[1:5])).(*avro.RecordSchema)
	both := must(avro.NewSchemaCompatibility().Resolve(c.current[writer.FullName()], writer))
	var record fields
	check(avro.Unmarshal(both, data[5:], &record))
	return writer.FullName(), record
}

// --- as JSON ------------------------------------------------------------------------------------

func plain(schema avro.Schema, value any) any {
	switch schema := schema.(type) {
	case *avro.RefSchema:
		return plain(schema.Schema(), value)
	case *avro.RecordSchema:
		made := fields{}
		for _, field := range schema.Fields() {
			made[field.Name()] = plain(field.Type(), value.(fields)[field.Name()])
		}
		return made
	case *avro.ArraySchema:
		made := []any{}
		for _, item := range value.([]any) {
			made = append(made, plain(schema.Items(), item))
		}
		return made
	case *avro.MapSchema:
		made := fields{}
		for key, item := range value.(fields) {
			made[key] = plain(schema.Values(), item)
		}
		return made
	case *avro.UnionSchema:
		if value == nil {
			return nil
		}
		for _, branch := range schema.Types() {
			name := string(branch.Type())
			if named, is := branch.(avro.NamedSchema); is {
				name = named.FullName()
			} else if ref, is := branch.(*avro.RefSchema); is {
				name = ref.Schema().FullName()
			}
			if inner, is := value.(fields); is && inner[name] != nil {
				if schema.Nullable() {
					return plain(branch, inner[name])
				}
				return fields{name: plain(branch, inner[name])}
			}
			if _, is := branch.(*avro.PrimitiveSchema); is {
				return plain(branch, value)
			}
		}
		check(fmt.Errorf("no branch of %s holds %v", schema, value))
	}
	if bytes, is := value.([]byte); is {
		return hex.EncodeToString(bytes)
	}
	return value
}

func show(line fields) {
	fmt.Println(string(must(json.Marshal(line))))
}

// --- what it is asked ---------------------------------------------------------------------------

func (c *client) golden(folder string) {
	ids := map[string]uint32{}
	for name, schema := range c.current {
		ids[name] = fingerprint(schema)
	}
	show(fields{"ids": ids})
	paths := must(filepath.Glob(filepath.Join(folder, "*.hex")))
	sort.Strings(paths)
	for _, path := range paths {
		text := strings.TrimSpace(string(must(os.ReadFile(path))))
		name, record := c.decode(must(hex.DecodeString(text)))
		again := c.encode(name, record, fingerprint(c.current[name]))
		show(fields{
			"file": filepath.Base(path), "value": plain(c.current[name], record),
			"again": hex.EncodeToString(again),
		})
	}
}

func (c *client) chain(kafka, prefix, device string, count int) {
	results := prefix + "capture.results"
	client := must(kgo.NewClient(
		kgo.SeedBrokers(kafka),
		kgo.ConsumerGroup(rand.Text()),
		kgo.ConsumeTopics(prefix+"schedule.decisions", results),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
	))
	defer client.Close()
	c.publish(client, prefix, "shutterwheel.ScheduleUpserted", fields{
		"request_id": "up-" + device, "device_id": device, "schedule_id": "interop",
		"spec":            fields{"kind": "interval", "every_ms": int64(500)},
		"policy":          fields{"lead_ms": int64(1000)},
		"published_at_ms": time.Now().UnixMilli(),
	})
	c.await(client, "up-"+device, device, results, count)
	c.publish(client, prefix, "shutterwheel.ScheduleCancelled", fields{
		"request_id": "end-" + device, "device_id": device, "schedule_id": "interop",
		"published_at_ms": time.Now().UnixMilli(),
	})
	c.await(client, "end-"+device, device, results, 0)
}

func (c *client) publish(client *kgo.Client, prefix, name string, event fields) {
	value := c.encode(name, event, c.idOf(name))
	placed := must(client.ProduceSync(context.Background(), &kgo.Record{
		Topic: prefix + "schedule.events", Key: []byte(event["device_id"].(string)), Value: value,
	}).First())
	_, whole := c.decode(value)
	show(fields{
		"topic": placed.Topic, "partition": placed.Partition, "offset": placed.Offset,
		"record": name, "value": plain(c.current[name], whole),
	})
}

// await prints what comes of the device until the request is answered and so many results came.
func (c *client) await(client *kgo.Client, request, device, results string, count int) {
	decided, seen := false, 0
	for !decided || seen < count {
		fetched := client.PollFetches(context.Background())
		check(fetched.Err())
		fetched.EachRecord(func(one *kgo.Record) {
			name, record := c.decode(one.Value)
			if record["device_id"] != device {
				return
			}
			show(fields{
				"topic": one.Topic, "partition": one.Partition, "offset": one.Offset,
				"record": name, "value": plain(c.current[name], record),
			})
			if one.Topic == results {
				seen++
			} else if record["request_id"] == request {
				decided = true
			}
		})
	}
}

func main() {
	if os.Args[1] == "golden" {
		newClient(os.Args[2], "-").golden(os.Args[3])
		return
	}
	newClient(os.Args[4], os.Args[5]).
		chain(os.Args[2], os.Args[3], os.Args[6], must(strconv.Atoi(os.Args[7])))
}
