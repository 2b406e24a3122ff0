package core

// MaxOrganizationLength bounds the name of an organization, in bytes.
const MaxOrganizationLength = 64

// ValidOrganization reports whether s is the name of an organization: 1 to 64
// of `a-z 0-9 _ -`. The name stands inside the braces of Redis keys, so nothing
// else may pass.
func ValidOrganization(s string) bool {
	if len(s) == 0 || len(s) > MaxOrganizationLength {
		return false
	}
	for i := range len(s) {
		c := s[i]
		if !('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '_' || c == '-') {
			return false
		}
	}
	return true
}
