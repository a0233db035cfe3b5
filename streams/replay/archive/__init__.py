"""An archive: topics in Avro object container files, chained by hashes, read again as a log.

::

    runs/00000001.json                               manifest of the first run: what it added
    files/schedule.ticks/0003/00000000000000000000-00000000000000071204-9f2c41d07b1e.avro

**A file** holds the entries of one range of offsets of one partition (``container.py``): offset,
timestamp, key and value, bytes as they were. **A manifest** (``manifest.py``) names the files that
one run added, with a hash of each, and the hash of the manifest before it. It is put last and only
if there is none of its number, so a run that is killed leaves files that nobody names, and the
archive of before.

**The chains.** Each file's *chain value* is a hash over the value of its forerunner in (topic,
partition), over the file's own hash and over what the file is. So a record, a file or a run that
was changed, taken away, put in or moved is found (``verify.py``), as far as the newest manifest's
hash, the *head*, is known from elsewhere or signed: see ADR 0024.
"""
