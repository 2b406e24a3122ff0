// Package trial tests endpoints: it sends one signed event at once, past queue,
// limits and log, and tells what happened.
package trial
