package redisstore

import (
	"crypto/sha256"
	"encoding/hex"
)

// apiKeysKey is the hash of all API keys: id -> record with the key's hash. It
// serves listing and revoking; requests are authenticated by apiKeyKey alone.
const apiKeysKey = "sp:keys"

// apiKeyKey returns the key of the record of the API key with a SHA-256: a
// string that expires with the API key.
func apiKeyKey(hash [sha256.Size]byte) string {
	return "sp:key:" + hex.EncodeToString(hash[:])
}

// fenceKey is a string without a meaning: the write for which replicaHook waits.
const fenceKey = "sp:fence"

// processesKey is the hash of running processes: id -> time of the announcement
// by the clock of Redis in ms, a space, and what the process tells about itself.
const processesKey = "sp:processes"

// endpointsKey returns the key of an organization's endpoints: a hash, endpoint
// id -> record. Whoever changes it sets versionKey anew in the same script.
func endpointsKey(organization string) string {
	return "sp:{org:" + organization + "}:endpoints"
}

// VersionKey returns the key of the version token that Begin reads, for who compares
// it in a script of his own.
func VersionKey(organization string) string { return versionKey(organization) }

// versionKey returns the key of the random token that changes with every change
// of the organization's endpoints. Absent means that nothing is known.
func versionKey(organization string) string {
	return "sp:{org:" + organization + "}:version"
}

// quotaKey returns the key of an organization's publishing quota: a string, see
// drawScript. It ends when the bucket is full again.
func quotaKey(organization string) string {
	return "sp:{org:" + organization + "}:quota"
}

// testKey returns the key that is there for a second after an organization has tested
// an endpoint.
func testKey(organization string) string { return "sp:{org:" + organization + "}:test" }

// trailKey returns the key of the time until which an organization has used up its
// allowance of logs that are looked through for events: a string that ends then.
func trailKey(organization string) string { return "sp:{org:" + organization + "}:trail" }

// idempotencyKey returns the key of a claim on an idempotency key: a hash, see
// beginScript. The key that the producer chose is hashed, so that its length
// and its bytes do not matter.
func idempotencyKey(organization, key string) string {
	sum := sha256.Sum256([]byte(key))
	return "sp:{org:" + organization + "}:idem:" + hex.EncodeToString(sum[:])
}

// attemptsKey returns the key of an endpoint's log: a list of rows, newest
// first.
func attemptsKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:attempts" }

// failuresKey returns the key of the list of those rows of an endpoint's log
// that are not successes, so that successes cannot push them out.
func failuresKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:failures" }

// deadKey returns the key of an endpoint's dead letters: a stream, oldest first.
func deadKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:dead" }

// deadIndexKey returns the key of the hash delivery id -> stream entry id of an
// endpoint's dead letters. Its field `:bytes` holds their size.
func deadIndexKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:dead:index" }

// keptKey returns the key of an endpoint's delivered deliveries that are kept for
// replay: a stream, oldest first.
func keptKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:kept" }

// keptIndexKey returns the key of the hash delivery id -> stream entry id of what is
// at keptKey. Its field `:bytes` holds their size.
func keptIndexKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:kept:index" }

// recoverKey returns the key of an endpoint's recoveries: a hash, id -> record. Its
// field `:running` holds the id of the one that runs.
func recoverKey(endpoint string) string { return "sp:{ep:" + endpoint + "}:recover" }

// recoveriesKey is the sorted set of recoveries that run: when a runner has to make
// the next step, in Unix ms by the clock of Redis. Its members are named by
// recoveryMember.
const recoveriesKey = "sp:recoveries"

// The backlogs of all endpoints share a slot, so that one script can add to a
// backlog and see to it that somebody looks there. Members of waitingKey and
// ownersKey are named by memberOf, fields of the other hashes by endpoint id.
const (
	// waitingKey is the sorted set of endpoints with a backlog: when a drain has to
	// look next, in Unix ms by the clock of Redis. While a backlog is claimed this is
	// the end of the lease. Every endpoint with a stream that is not empty is in it.
	waitingKey = "sp:{drain-00}:waiting"
	// ownersKey is the hash of claims: the owner's token, and a + behind it when
	// LookAt was called meanwhile.
	ownersKey = "sp:{drain-00}:owners"
	// conditionsKey is the hash of core.Conditions, see encodeCondition. No field
	// means none.
	conditionsKey = "sp:{drain-00}:conditions"
	// failingKey is the hash of core.Failings: since in Unix ms, a space, and the
	// highest warning given.
	failingKey = "sp:{drain-00}:failing"
	// sizesKey is the hash of the bytes in each backlog.
	sizesKey = "sp:{drain-00}:sizes"
	// totalsKey is the hash of `deliveries` and `bytes` in all backlogs.
	totalsKey = "sp:{drain-00}:totals"
	// backlogBellKey is the list of rings: one for each backlog that is to be looked
	// at at once, 16 at most.
	backlogBellKey = "sp:{drain-00}:bell"
)

// backlogKey returns the key of an endpoint's backlog: a stream, oldest first. The
// field `d` of an entry is the frame of one delivery.
func backlogKey(endpoint string) string { return "sp:{drain-00}:backlog:" + endpoint }

// replayedKey returns the key of the hash entry -> delivery id of an endpoint's dead
// letters that were replayed and are not removed yet.
func replayedKey(endpoint string) string { return "sp:{drain-00}:replayed:" + endpoint }
