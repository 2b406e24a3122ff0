// Package redisstore keeps in Redis all that Sealpost remembers, apart from the
// queue itself (core/queue): endpoints, attempts, dead letters, idempotency
// keys and API keys. It also opens the Redis clients and watches how full Redis
// is.
//
// Every key is built in keys.go. The part of a key in braces fixes its slot in
// a Redis Cluster; scripts and transactions stay within one slot, and nothing
// is atomic across slots. Sequences that cross slots are ordered so that a
// crash between two steps repeats something and loses nothing.
//
// Failures of Redis come back as *core.Error with core.CodeUnavailable and mean
// "not confirmed": Redis may have done, or may still do, what was asked. The
// clients of Open never repeat a command by themselves, because most commands
// here must not run twice unnoticed. A method that is safe to call again after
// such a failure says so.
package redisstore
