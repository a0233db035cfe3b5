"""Kafka and Faust: exactly-once steps on the partitions this worker owns.

**The protocol.** A worker owns partitions under a *membership* (generation, member id). Work is
done in *steps*: synchronous pieces, each on one partition, that gather outputs, state writes and
the next input offsets in the open *batch* (``partition.py``, ``batch.py``). A commit takes the
batch whole and makes it one Kafka transaction (``transaction.py``)::

    register the partitions → append outputs and changelog → send the offsets of every partition
    touched, stamped with the membership the batch was begun under (the fence) → commit
    → one RocksDB WriteBatch with the changelog offsets in it → act (shutters, answers)

On taking a partition over (``tenancy.py``, ``recovery.py``)::

    a mark among the group's offsets → stable input offsets that hold it → a mark in the
    changelog → read it committed until the *position* is behind the mark → build the state → steps

**What is assumed of Kafka.**

* A transaction's records, and the offsets sent with it, become visible to readers of committed
  records together or never; a producer of the same transactional.id that starts later aborts what
  an earlier one left open and fences it (KIP-98; its epoch moves with each transaction, KIP-890).
* The group's coordinator refuses offsets in a transaction whose stamp is not of the group's
  present generation and a member of it (KIP-447). It does not check the pair (-1, ""), so that is
  never used.
* Offsets that an open transaction has sent are *pending*, and a reader that requires stable
  offsets is made to ask again until it is decided (KIP-447).
* A commit is decided before its markers are written; the last stable offset may lie before a
  marker that is still to come (KAFKA-10167), so it is never the target.
* A broker that wakes after its session may tell ends and offsets as they were, but a write to it
  with acks=all is not acknowledged. So whoever recovers writes first, and reads its own writes
  (``marks.py``).
* The broker ends a transaction left open after its timeout (5 s; looked for every second).
* It speaks the versions of its requests that ``wire.SPOKEN`` names (2.5 to 4.x do); a start asks
  first. A batch has its producer's epoch and a sequence: appended once, however often it is sent,
  and refused with an epoch that has passed (KIP-98). All else may be asked twice, but a commit that
  comes late, which could end the next transaction: see ``transaction.py`` (KIP-890 is about it).

**No loss.** The next offset of an input is committed only in the transaction that holds what its
records led to, and a worker begins at the committed one. Work that the clock or a camera starts is
found again in the state: its rows are written in the transaction that announced it.

**No double.** The same transaction, read the other way: outputs without their offsets are never
visible. A commit falls only between steps, a poll that overlaps the committed offset is trimmed to
it, and state is what the changelog says, so a step made again after a crash is made from where its
first self began, which nobody has seen. A commit whose outcome is not known ends the worker, and
the stable offsets tell its successor which it was.

**No zombie.** A worker that was stopped and wakes may hold a batch, but stamped with a generation
that has passed: refused. It cannot take the new one for its own, as a batch is stamped at its
first step and partitions are bound to the membership they were opened under. It holds the state of
then, and reads it for steps that cannot be committed. What is outside of transactions (a shutter)
asks for the lease: the last heartbeat answered is younger than the session timeout less a margin,
by a clock that runs on while the process is stopped. Between two generations ``handover.py`` says
who may.

Why: infra/adr/0005-runtime.md and 0009-rebalance.md. What operators see: infra/runbooks. Trial:
``./dev test --faults``.
"""
