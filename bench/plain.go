package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strconv"
	"time"

	"github.com/hibiken/asynq"
	"github.com/valyala/fasthttp"

	"github.com/sealpost/sealpost/bench/internal/lab"
	"github.com/sealpost/sealpost/core/sign"
)

// The scenario plain-asynq: what somebody would write without Sealpost. A
// gateway that puts one default asynq task per event, a sender with a default
// asynq server. It authenticates, validates, limits and measures nothing, which
// makes it faster than an honest product would be; signing and HTTP client are
// as in Sealpost.

const plainTask = "deliver"

var plainKey = []byte("plain-asynq-signing-key!")

// runPlain is one of its two processes.
func runPlain(ctx context.Context, o *options) error {
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	ready := &fasthttp.Server{Handler: func(*fasthttp.RequestCtx) {}}
	go ready.Serve(admin)  //nolint:errcheck // ends with the process
	defer ready.Shutdown() //nolint:errcheck // ends with the process
	log.Info("admin listening", "addr", admin.Addr().String())
	opt := asynq.RedisClientOpt{Addr: o.redis}
	if o.roleHidden == "gateway" {
		return plainGateway(ctx, opt, log)
	}
	return plainSender(ctx, opt, o)
}

func plainGateway(ctx context.Context, opt asynq.RedisClientOpt, log *slog.Logger) error {
	client := asynq.NewClient(opt)
	defer client.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &fasthttp.Server{MaxRequestBodySize: 1 << 20, Handler: func(rc *fasthttp.RequestCtx) {
		body := append([]byte(nil), rc.PostBody()...)
		if _, err := client.Enqueue(asynq.NewTask(plainTask, body)); err != nil {
			rc.SetStatusCode(fasthttp.StatusServiceUnavailable)
			return
		}
		rc.SetStatusCode(fasthttp.StatusAccepted)
	}}
	go server.Serve(l) //nolint:errcheck // ends with Shutdown
	log.Info("api listening", "addr", l.Addr().String())
	<-ctx.Done()
	return server.Shutdown()
}

// plainSender posts to the receiver that stands in PLAIN_RECEIVER. PLAIN_POLL is
// asynq's TaskCheckInterval; empty: its default, a second.
func plainSender(ctx context.Context, opt asynq.RedisClientOpt, o *options) error {
	target := os.Getenv("PLAIN_RECEIVER")
	poll, err := time.ParseDuration(os.Getenv("PLAIN_POLL"))
	if err != nil {
		return fmt.Errorf("PLAIN_POLL: %w", err)
	}
	server := asynq.NewServer(opt, asynq.Config{Concurrency: o.concurrent, TaskCheckInterval: poll, LogLevel: asynq.FatalLevel})
	signer := sign.NewSigner(plainKey)
	client := &fasthttp.Client{MaxConnsPerHost: 512, ReadTimeout: 15 * time.Second, WriteTimeout: 15 * time.Second}
	err = server.Start(asynq.HandlerFunc(func(_ context.Context, task *asynq.Task) error {
		req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
		defer fasthttp.ReleaseRequest(req)
		defer fasthttp.ReleaseResponse(resp)
		req.SetRequestURI(target)
		req.Header.SetMethod(fasthttp.MethodPost)
		req.Header.SetContentType("application/json")
		id, now := task.ResultWriter().TaskID(), time.Now().Unix()
		req.Header.Set("webhook-id", id)
		req.Header.Set("webhook-timestamp", strconv.FormatInt(now, 10))
		req.Header.SetBytesV("webhook-signature", signer.AppendSignature(nil, id, now, task.Payload()))
		req.SetBodyRaw(task.Payload())
		if err := client.DoTimeout(req, resp, 15*time.Second); err != nil {
			return err
		}
		if resp.StatusCode() != fasthttp.StatusOK {
			return fmt.Errorf("status %d", resp.StatusCode())
		}
		return nil
	}))
	if err != nil {
		return err
	}
	<-ctx.Done()
	server.Shutdown()
	return nil
}

// plainStack is the scenario's gateway and sender, on a Redis of their own.
type plainStack struct {
	dir             string
	redis           *lab.Redis
	gateway, sender *lab.Process
	api             string
}

func startPlain(ctx context.Context, receiver, poll string, concurrency int) (s *plainStack, err error) {
	s = &plainStack{}
	if s.dir, err = os.MkdirTemp("", "sealpost-plain"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if s.redis, err = lab.StartRedis(s.dir, lab.RedisOptions{}); err != nil {
		return nil, err
	}
	addr := s.redis.Addr
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s.gateway, s.api, err = lab.StartProgram(ctx, s.dir, "gateway", self, nil, "--plain", "gateway", "--redis", addr)
	if err != nil {
		return nil, err
	}
	env := map[string]string{"PLAIN_RECEIVER": receiver, "PLAIN_POLL": poll}
	s.sender, _, err = lab.StartProgram(ctx, s.dir, "sender", self, env, "--plain", "sender", "--redis", addr, "--concurrency", strconv.Itoa(concurrency))
	return s, err
}

func (s *plainStack) processes() []*lab.Process {
	return []*lab.Process{s.gateway, s.redis.Process, s.sender}
}

func (s *plainStack) close() {
	for _, p := range []*lab.Process{s.sender, s.gateway} {
		if p != nil {
			p.Stop()
		}
	}
	if s.redis != nil && s.redis.Process != nil {
		s.redis.Stop()
	}
	os.RemoveAll(s.dir)
}
