package leak

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"github.com/redis/go-redis/v9"
)

const (
	page  = 100     // entries of a collection in Redis at a time
	piece = 1 << 20 // bytes of a string in Redis at a time
)

// Files looks through every file below a folder, and their names.
func (f *Finder) Files(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		defer file.Close()
		return f.Read("the file "+name, io.MultiReader(strings.NewReader(name+"\n"), file))
	})
}

// URL looks through what a GET of it answers, whatever its status.
func (f *Finder) URL(ctx context.Context, place, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	return f.Read(place, resp.Body)
}

// Redis looks through every key and its value as Redis gives it out: DUMP may
// compress. What Sealpost compresses keeps a secret legible, as nothing in it
// repeats.
func (f *Finder) Redis(ctx context.Context, c *redis.Client) error {
	keys := c.Scan(ctx, 0, "*", page).Iterator()
	for keys.Next(ctx) {
		if err := f.key(ctx, c, keys.Val()); err != nil {
			return fmt.Errorf("read %q: %w", keys.Val(), err)
		}
	}
	return keys.Err()
}

// key looks through one key.
func (f *Finder) key(ctx context.Context, c *redis.Client, key string) error {
	kind, err := c.Type(ctx, key).Result()
	if err != nil {
		return err
	}
	place := "the Redis key " + key
	show := func(parts ...string) error { return f.Read(place, strings.NewReader(strings.Join(parts, "\n"))) }
	if err := show(key); err != nil {
		return err
	}
	cursor := func(scan func(context.Context, string, uint64, string, int64) *redis.ScanCmd) error {
		for at := uint64(0); ; {
			parts, next, err := scan(ctx, key, at, "*", page).Result()
			if err := errors.Join(err, show(parts...)); err != nil || next == 0 {
				return err
			}
			at = next
		}
	}
	switch kind {
	case "string":
		return f.Read(place, &value{ctx: ctx, client: c, key: key})
	case "hash":
		return cursor(c.HScan)
	case "set":
		return cursor(c.SScan)
	case "zset":
		return cursor(c.ZScan)
	case "list":
		for at := int64(0); ; at += page {
			parts, err := c.LRange(ctx, key, at, at+page-1).Result()
			if err := errors.Join(err, show(parts...)); err != nil || len(parts) < page {
				return err
			}
		}
	case "stream":
		for from := "-"; ; {
			entries, err := c.XRangeN(ctx, key, from, "+", page).Result()
			if err := errors.Join(err, show(words(entries)...)); err != nil || len(entries) < page {
				return err
			}
			from = "(" + entries[len(entries)-1].ID
		}
	case "none": // expired meanwhile
		return nil
	}
	return fmt.Errorf("the type %s is not known", kind)
}

// words returns what entries of a stream say.
func words(entries []redis.XMessage) []string {
	var all []string
	for _, e := range entries {
		for name, value := range e.Values {
			all = append(all, name, fmt.Sprint(value))
		}
	}
	return all
}

// value reads a string in Redis piece by piece.
type value struct {
	ctx    context.Context
	client *redis.Client
	key    string
	at     int64
	rest   string
}

func (v *value) Read(p []byte) (int, error) {
	if v.rest == "" {
		var err error
		if v.rest, err = v.client.GetRange(v.ctx, v.key, v.at, v.at+piece-1).Result(); err != nil {
			return 0, err
		}
		if v.rest == "" {
			return 0, io.EOF
		}
		v.at += int64(len(v.rest))
	}
	n := copy(p, v.rest)
	v.rest = v.rest[n:]
	return n, nil
}
