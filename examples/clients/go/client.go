package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"example.com/kontiki-kv/pb/kv"
)

// ErrFailed: it was not applied, and will not be. ErrUnknown: it may have been, or may be yet.
var (
	ErrFailed  = errors.New("failed")
	ErrUnknown = errors.New("unknown")
)

// Client speaks to one server at a time: the leader, once a redirect or chance has led there. It is
// for one goroutine.
type Client struct {
	Endpoints []string      // HOST:PORT of client ports
	Timeout   time.Duration // of a call, its retries included

	address string
	conn    *grpc.ClientConn
}

// goTo turns to another server; "" is any.
func (c *Client) goTo(address string) error {
	if address == "" {
		address = c.Endpoints[rand.IntN(len(c.Endpoints))]
	}
	if c.conn != nil {
		c.conn.Close()
	}
	var err error
	c.address = address
	c.conn, err = grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	return err
}

// connected waits for a connection. As long as that fails, nothing was sent.
func (c *Client) connected(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	c.conn.Connect()
	for state := c.conn.GetState(); state != connectivity.Ready; state = c.conn.GetState() {
		if state == connectivity.TransientFailure || !c.conn.WaitForStateChange(ctx, state) {
			return false
		}
	}
	return true
}

// call gets one answer, wherever that leads, or an error that is ErrFailed or ErrUnknown.
func call[Q, A any](ctx context.Context, c *Client, write bool, request Q,
	send func(kv.KvClient, context.Context, Q, ...grpc.CallOption) (A, error)) (A, error) {
	var none A
	failed := fmt.Errorf("%w: no time was left", ErrFailed)
	for pause := 20 * time.Millisecond; ctx.Err() == nil; pause = min(2*pause, 500*time.Millisecond) {
		leader := ""
		if c.conn == nil {
			if err := c.goTo(""); err != nil {
				return none, fmt.Errorf("%w: %w", ErrFailed, err)
			}
		}
		if !c.connected(ctx) {
			failed = fmt.Errorf("%w: cannot connect to %s", ErrFailed, c.address)
		} else {
			attempt, cancel := ctx, context.CancelFunc(func() {})
			if !write { // a read may go elsewhere when a server is silent
				attempt, cancel = context.WithTimeout(ctx, 2*time.Second)
			}
			answer, err := send(kv.NewKvClient(c.conn), attempt, request)
			cancel()
			if err == nil {
				return answer, nil
			}
			info := errorInfo(err)
			failed = fmt.Errorf("%w: %s at %s: %w", ErrFailed, info.Reason, c.address, err)
			leader = info.Metadata["leader_address"]
			if write && info.Metadata["outcome"] != "FAILED" {
				c.conn.Close()
				c.conn = nil
				// Never again: it could be applied twice.
				return none, fmt.Errorf("%w: %s at %s: %w", ErrUnknown, info.Reason, c.address, err)
			}
			code := status.Code(err)
			if code == codes.InvalidArgument || code == codes.Unimplemented ||
				info.Reason == "WRONG_MACHINE" || info.Reason == "WRONG_CLUSTER" {
				return none, failed // the same again would meet the same
			}
		}
		if err := c.goTo(leader); err != nil {
			return none, fmt.Errorf("%w: %w", ErrFailed, err)
		}
		sleep(ctx, rand.N(pause))
	}
	return none, failed
}

// errorInfo is the detail that every error of Kontiki has; empty for one that something else gave.
func errorInfo(err error) *errdetails.ErrorInfo {
	for _, detail := range status.Convert(err).Details() {
		if info, ok := detail.(*errdetails.ErrorInfo); ok && info.Domain == "kontiki.dev" {
			return info
		}
	}
	return &errdetails.ErrorInfo{}
}

func sleep(ctx context.Context, pause time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

func (c *Client) deadline() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.Background(), c.Timeout)
}

// Get answers without a KeyValue if there is no such key, and names the cluster that the revisions are of.
func (c *Client) Get(key []byte) (*kv.GetResponse, error) {
	ctx, cancel := c.deadline()
	defer cancel()
	return call(ctx, c, false, &kv.GetRequest{Key: key}, kv.KvClient.Get)
}

// Put answers with the revision of the write. After ErrUnknown only the caller can tell what to do.
func (c *Client) Put(key, value []byte) (uint64, error) {
	ctx, cancel := c.deadline()
	defer cancel()
	answer, err := call(ctx, c, true, &kv.PutRequest{Key: key, Value: value}, kv.KvClient.Put)
	return answer.GetRevision(), err
}

// Delete says whether the key was there.
func (c *Client) Delete(key []byte) (bool, error) {
	ctx, cancel := c.deadline()
	defer cancel()
	answer, err := call(ctx, c, true, &kv.DeleteRequest{Key: key}, kv.KvClient.Delete)
	return answer.GetDeleted(), err
}

// CompareAndSet stores if the key is at revision (0: absent), and answers with the new revision; if
// the key is not there, with 0 and what is. An unknown outcome is found out by asking again: of all
// copies at most one is done. For that nobody else may store this very value: put something unique
// in it. The revision is of cluster, and another one refuses it; "" is whichever is there.
func (c *Client) CompareAndSet(key, value []byte, revision uint64, cluster string) (uint64, *kv.KeyValue, error) {
	ctx, cancel := c.deadline()
	defer cancel()
	request := &kv.PutRequest{Key: key, Value: value, IfModRevision: &revision, ClusterId: cluster}
	var doubt error
	for {
		answer, err := call(ctx, c, true, request, kv.KvClient.Put)
		switch {
		case errors.Is(err, ErrUnknown):
			doubt = err
			sleep(ctx, rand.N(200*time.Millisecond))
		case err != nil && doubt != nil:
			return 0, nil, doubt // this copy failed; an earlier one may have been done
		case err != nil:
			return 0, nil, err
		case !answer.Mismatch:
			return answer.Revision, nil, nil
		case doubt == nil:
			return 0, answer.Current, nil
		case answer.Current != nil && bytes.Equal(answer.Current.Value, value):
			return answer.Current.ModRevision, nil, nil // an earlier copy was done
		default:
			return 0, nil, doubt // not done, or done and overwritten since
		}
	}
}

// Range hands over every KeyValue in key order, page keys at a time. The pages together are no
// snapshot.
func (c *Client) Range(start, end []byte, page uint32, each func(*kv.KeyValue)) error {
	request := &kv.RangeRequest{Start: start, End: end, Limit: page}
	for {
		ctx, cancel := c.deadline()
		answer, err := call(ctx, c, false, request, kv.KvClient.Range)
		cancel()
		if err != nil {
			return err
		}
		for _, found := range answer.Kvs {
			each(found)
		}
		if len(answer.Continuation) == 0 {
			return nil
		}
		request = &kv.RangeRequest{Continuation: answer.Continuation, Limit: page}
	}
}
