package app

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

var variable = regexp.MustCompile(`SEALPOST_[A-Z0-9_]*[A-Z0-9]`)

// flagsOf returns every flag of a program that has a variable, by the variable.
func flagsOf(t *testing.T, role Role) map[string][]*kong.Flag {
	t.Helper()
	parser, err := newParser(role, &bytes.Buffer{})
	if err != nil {
		t.Fatal(err)
	}
	flags := make(map[string][]*kong.Flag)
	err = kong.Visit(parser.Model, func(node kong.Visitable, next kong.Next) error {
		if flag, ok := node.(*kong.Flag); ok {
			for _, env := range flag.Envs {
				flags[env] = append(flags[env], flag)
			}
		}
		return next(nil)
	})
	if err != nil {
		t.Fatal(err)
	}
	return flags
}

// verifySecret is a variable that is an argument, not a setting: it stands in
// the help of `gateway verify` alone.
const verifySecret = "SEALPOST_VERIFY_SECRET"

// TestSettingsAreDocumented compares the settings with README's table.
func TestSettingsAreDocumented(t *testing.T) {
	t.Parallel()
	settings := flagsOf(t, Gateway)
	for env, flags := range flagsOf(t, Sender) {
		settings[env] = append(settings[env], flags...)
	}
	if len(settings) < 20 {
		t.Fatalf("only %d settings were found: %v", len(settings), slices.Sorted(maps.Keys(settings)))
	}
	documented := make(map[string]string) // variable -> its default, as the table shows it
	for _, row := range tableRows(t, "README.md", "| variable | default | meaning |") {
		names, defaults := variable.FindAllString(row[0], -1), backquoted(row[1])
		for i, name := range names {
			if documented[name] = row[1]; len(defaults) == len(names) {
				documented[name] = defaults[i]
			}
		}
	}
	delete(settings, verifySecret)
	for env, flags := range settings {
		shown, ok := documented[env]
		if !ok {
			t.Errorf("README's table of settings lacks %s", env)
		}
		for _, flag := range flags {
			if want := "SEALPOST_" + strings.ToUpper(strings.ReplaceAll(flag.Name, "-", "_")); env != want {
				t.Errorf("the flag --%s has the variable %s, want %s", flag.Name, env, want)
			}
			if flag.HasDefault && !strings.Contains(shown, flag.Default) && flag.Default != "0" && flag.Default != "0s" {
				t.Errorf("README gives %s the default %q, the program has %q", env, shown, flag.Default)
			}
			if flag.Help == "" {
				t.Errorf("--%s has no help", flag.Name)
			}
		}
	}
	for env := range documented {
		if _, ok := settings[env]; !ok {
			t.Errorf("README's table lists %s, which no program reads", env)
		}
	}
	for _, file := range []string{"README.md", "docs/API.md"} {
		for _, env := range variable.FindAllString(document(t, file), -1) {
			if _, ok := settings[env]; !ok && env != verifySecret {
				t.Errorf("%s names %s, which no program reads", file, env)
			}
		}
	}
}

// TestHelpListsSettings runs --help of each command and looks for every setting
// of it, with its variable and default.
func TestHelpListsSettings(t *testing.T) {
	t.Parallel()
	for role, commands := range map[Role][]string{
		Gateway: {"serve", "dev", "keys create", "keys list", "keys revoke", "doctor", "top", "verify", "version", ""},
		Sender:  {"serve", "version", ""},
	} {
		for _, command := range commands {
			t.Run(role.String()+" "+command, func(t *testing.T) {
				t.Parallel()
				o := invoke(t, role, append(strings.Fields(command), "--help")...)
				if o.status != exitOK || o.stderr != "" {
					t.Fatalf("%+v, want status 0", o)
				}
				parser, err := newParser(role, &bytes.Buffer{})
				if err != nil {
					t.Fatal(err)
				}
				node := parser.Model.Node
				for _, word := range strings.Fields(command) {
					i := slices.IndexFunc(node.Children, func(n *kong.Node) bool { return n.Name == word })
					if i < 0 {
						t.Fatalf("no command %s", word)
					}
					node = node.Children[i]
				}
				text := strings.Join(strings.Fields(o.stdout), " ") // without its line breaks
				for _, flag := range node.Flags {
					if !strings.Contains(text, "--"+flag.Name) {
						t.Errorf("--help lacks --%s", flag.Name)
					}
					for _, env := range flag.Envs {
						if !strings.Contains(text, "$"+env) {
							t.Errorf("--help lacks %s", env)
						}
					}
					if flag.HasDefault && flag.Default != "false" && !strings.Contains(text, flag.Default) {
						t.Errorf("--help lacks the default %q of --%s", flag.Default, flag.Name)
					}
				}
			})
		}
	}
}

// TestVersion prints the version in all forms.
func TestVersion(t *testing.T) {
	t.Parallel()
	for _, role := range []Role{Gateway, Sender} {
		for _, form := range []string{"version", "--version"} {
			if o := invoke(t, role, form); o.status != exitOK || !regexp.MustCompile(`^sealpost \d+\.\d+\.\d+ \(go1\.[^\n]*\)\n$`).MatchString(o.stdout) {
				t.Errorf("%v %s: %+v", role, form, o)
			}
		}
		if o := invoke(t, role, "version", "--json"); o.status != exitOK || !regexp.MustCompile(`^\{"go":"go1\.[^"]*","version":"\d+\.\d+\.\d+"\}\n$`).MatchString(o.stdout) {
			t.Errorf("%v: %+v", role, o)
		}
	}
}
