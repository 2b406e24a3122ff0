package sender

// cache is a map with a bound that keeps what was used last: two generations of
// at most half the bound each. When the young one is full it becomes the old
// one, and what the old one held is forgotten. Every operation takes constant
// time. It is not safe for concurrent use.
type cache[K comparable, V any] struct {
	half       int // entries per generation
	young, old map[K]V
}

// newCache returns a cache of at most limit entries; limit is at least 2.
func newCache[K comparable, V any](limit int) *cache[K, V] {
	return &cache[K, V]{half: limit / 2, young: make(map[K]V)}
}

// get returns the value under k and marks it as used.
func (c *cache[K, V]) get(k K) (V, bool) {
	if v, ok := c.young[k]; ok {
		return v, true
	}
	v, ok := c.old[k]
	if ok {
		c.put(k, v)
	}
	return v, ok
}

// put stores v under k.
func (c *cache[K, V]) put(k K, v V) {
	if _, ok := c.young[k]; !ok && len(c.young) >= c.half {
		c.old = c.young
		c.young = make(map[K]V)
	}
	c.young[k] = v
}

// remove forgets k.
func (c *cache[K, V]) remove(k K) {
	delete(c.young, k)
	delete(c.old, k)
}

// size returns how many entries are held; one that lies in both generations
// counts twice.
func (c *cache[K, V]) size() int { return len(c.young) + len(c.old) }
