// A client of kontiki.kv.v1.Kv in Go: copy client.go and change it. The README has the rules.
package main

import (
	"bufio"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"example.com/kontiki-kv/pb/kv"
)

//go:generate ./generate.sh

const usage = `kv ENDPOINT[,ENDPOINT...] put KEY VALUE | get KEY | cas KEY VALUE REVISION
    | delete KEY | range [START [END [PAGE]]] | fill PREFIX | count KEY

For each line of stdin fill stores it under PREFIX0, PREFIX1, ..., and count adds 1 to a number.`

var errUsage = errors.New(usage)

func main() {
	status, err := 2, errUsage
	if len(os.Args) >= 3 {
		client := &Client{Endpoints: strings.Split(os.Args[1], ","), Timeout: 10 * time.Second}
		status, err = run(client, os.Args[2], os.Args[3:])
	}
	switch {
	case errors.Is(err, ErrUnknown):
		status = 4
	case errors.Is(err, ErrFailed):
		status = 1
	case err != nil:
		status = 2
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	os.Exit(status)
}

// run answers with the exit status: 3 not found, 5 mismatch.
func run(client *Client, command string, arguments []string) (int, error) {
	text := func(at int) string {
		if at < len(arguments) {
			return arguments[at]
		}
		return ""
	}
	key, value := []byte(text(0)), []byte(text(1))
	switch fmt.Sprint(command, len(arguments)) {
	case "put2":
		revision, err := client.Put(key, value)
		if err == nil {
			fmt.Println(revision)
		}
		return 0, err
	case "get1":
		answer, err := client.Get(key)
		if err != nil || !answer.Found {
			return 3, err
		}
		fmt.Printf("%d %s\n", answer.Kv.ModRevision, answer.Kv.Value)
		return 0, nil
	case "cas3":
		wanted, err := strconv.ParseUint(text(2), 10, 64)
		if err != nil {
			return 2, err
		}
		revision, current, err := client.CompareAndSet(key, value, wanted, "")
		switch {
		case err != nil:
			return 1, err
		case revision != 0:
			fmt.Println(revision)
			return 0, nil
		case current == nil:
			fmt.Println("mismatch 0")
		default:
			fmt.Printf("mismatch %d %s\n", current.ModRevision, current.Value)
		}
		return 5, nil
	case "delete1":
		deleted, err := client.Delete(key)
		if err == nil {
			fmt.Println(map[bool]string{true: "deleted", false: "was not there"}[deleted])
		}
		return 0, err
	case "range0", "range1", "range2", "range3":
		page, _ := strconv.ParseUint(text(2), 10, 32) // 0 is the server's own bound
		return 0, client.Range(key, value, uint32(page), func(found *kv.KeyValue) {
			fmt.Printf("%s %s\n", found.Key, found.Value)
		})
	case "fill1":
		return 0, eachLine(func(number int, line []byte) (uint64, error) {
			return client.Put(fmt.Append(key, number), line)
		})
	case "count1":
		return 0, eachLine(func(int, []byte) (uint64, error) { return increment(client, key) })
	}
	return 2, errUsage
}

// eachLine does something for each line of stdin and prints how it ended, whatever happens.
func eachLine(work func(int, []byte) (uint64, error)) error {
	lines := bufio.NewScanner(os.Stdin)
	for number := 0; lines.Scan(); number++ {
		if result, err := work(number, lines.Bytes()); err == nil {
			fmt.Println("ok", number, result)
		} else if errors.Is(err, ErrUnknown) {
			fmt.Println("unknown", number, err)
		} else {
			fmt.Println("failed", number, err)
		}
	}
	return lines.Err()
}

// increment adds 1 to a number by compare-and-set; ErrUnknown if it may have been added.
func increment(client *Client, key []byte) (uint64, error) {
	for {
		old, err := client.Get(key)
		if err != nil {
			return 0, err
		}
		number, _, _ := strings.Cut(string(old.GetKv().GetValue()), " ")
		count, _ := strconv.ParseUint(number, 10, 64) // absent: 0
		value := fmt.Appendf(nil, "%d %s", count+1, rand.Text())
		revision, _, err := client.CompareAndSet(key, value, old.GetKv().GetModRevision(), old.ClusterId)
		if err != nil {
			return 0, err
		} else if revision != 0 {
			return count + 1, nil
		}
	}
}
