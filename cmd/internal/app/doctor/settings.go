package doctor

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
)

// metadata is where clouds tell a machine its credentials.
var metadata = netip.MustParseAddr("169.254.169.254")

// Prefixes shorter than these open more than any private network has: 10.0.0.0/8
// and fc00::/7 are the largest.
const (
	shortestIPv4 = 8
	shortestIPv6 = 7
)

// setting is the value of a setting and whose it is.
type setting struct {
	whose, value string
}

// settingsOf returns a setting of every announced process and this machine's.
// Without Redis there is only the latter.
func (p *patient) settingsOf(ctx context.Context, variable, own string) []setting {
	all := []setting{{"this environment", own}}
	if p.dead {
		return all
	}
	a, err := p.readProcesses(ctx)
	if err != nil {
		return all // which other checks tell
	}
	for i := range a.processes {
		if v, ok := a.processes[i].Settings[variable]; ok {
			all = append(all, setting{nameOf(&a.processes[i]), v})
		}
	}
	return all
}

func checkTargets(ctx context.Context, p *patient) (Finding, error) {
	worst := fine("deliveries reach public https addresses only")
	note := func(f Finding) {
		if worse(f.Status, worst.Status) || worst.Status == StatusOK {
			worst = f
		}
	}
	for _, s := range p.settingsOf(ctx, "SEALPOST_ALLOW_NETS", joinPrefixes(p.AllowNets)) {
		for word := range strings.SplitSeq(s.value, ",") {
			if prefix, err := netip.ParsePrefix(word); err == nil {
				note(judgeNet(s.whose, prefix))
			}
		}
	}
	for _, s := range p.settingsOf(ctx, "SEALPOST_ALLOW_HTTP", fmt.Sprint(p.AllowHTTP)) {
		if s.value == "true" && !worse(worst.Status, StatusWarning) {
			note(doubtful("unset SEALPOST_ALLOW_HTTP outside development", "%s permits http:// endpoints: payloads travel in clear text", s.whose))
		}
	}
	return worst, nil
}

func judgeNet(whose string, prefix netip.Prefix) Finding {
	const narrow = "name the few networks that receivers are in: a customer's endpoint may otherwise reach your own services"
	bits := shortestIPv6
	if prefix.Addr().Is4() {
		bits = shortestIPv4
	}
	switch {
	case prefix.Bits() < bits:
		return bad(narrow, "%s allows deliveries to %v, which is wide open", whose, prefix)
	case prefix.Contains(metadata):
		return bad(narrow, "%s allows deliveries to %v, where clouds keep a machine's credentials", whose, prefix)
	case prefix.Addr().IsLoopback():
		return doubtful("unset it outside development", "%s allows deliveries to this machine itself (%v)", whose, prefix)
	}
	return fine("%s allows deliveries to %v", whose, prefix)
}

func joinPrefixes(prefixes []netip.Prefix) string {
	words := make([]string, len(prefixes))
	for i, p := range prefixes {
		words[i] = p.String()
	}
	return strings.Join(words, ",")
}

func checkAdmin(ctx context.Context, p *patient) (Finding, error) {
	listeners := []setting{{"this environment", p.AdminListen}}
	if a, err := p.readProcessesIfAlive(ctx); err == nil {
		for i := range a.processes {
			listeners = append(listeners, setting{nameOf(&a.processes[i]), a.processes[i].AdminListen})
		}
	}
	worst := fine("every admin listener is private")
	for _, l := range listeners {
		if f := judgeListener(l.whose, l.value); worse(f.Status, worst.Status) {
			worst = f
		}
	}
	return worst, nil
}

func (p *patient) readProcessesIfAlive(ctx context.Context) (announced, error) {
	if p.dead {
		return announced{}, nil
	}
	return p.readProcesses(ctx)
}

func judgeListener(whose, address string) Finding {
	const bind = "bind SEALPOST_ADMIN_LISTEN to 127.0.0.1 or a private address: it shows metrics and profiles to everybody"
	host, _, err := net.SplitHostPort(address)
	if err != nil || address == "" {
		return fine("%s has none", whose)
	}
	ip, err := netip.ParseAddr(host)
	switch {
	case host == "" || err == nil && ip.IsUnspecified():
		return doubtful(bind+"; a firewall may do too", "%s: the admin listener %s is open on every interface", whose, address)
	case err != nil:
		return fine("%s: the admin listener is at a name", whose)
	case ip.Unmap().IsLoopback() || ip.Unmap().IsPrivate() || ip.Unmap().IsLinkLocalUnicast():
		return fine("%s: the admin listener is private", whose)
	}
	return bad(bind, "%s: the admin listener %s is at a public address", whose, address)
}

func checkVariables(_ context.Context, p *patient) (Finding, error) {
	if len(p.UnknownVariables) > 0 {
		return doubtful("correct or unset them: gateway serve --help and sender serve --help list all", "no program reads %s: typing errors?", strings.Join(p.UnknownVariables, ", ")), nil
	}
	return fine("every SEALPOST_ variable of this environment is known"), nil
}
