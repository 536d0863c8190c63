package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"flag"
	"fmt"
	"net"
	"sort"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Sent is what came of a load.
type Sent struct {
	Started  float64   `json:"started"`  // Unix seconds
	Ended    float64   `json:"ended"`    // Unix seconds
	Accepted int64     `json:"accepted"` // messages with a 250 (empty sessions: handshakes)
	Errors   []string  `json:"errors"`
	Latency  []float64 `json:"latency"` // seconds from the connect (later messages of a connection: from MAIL) to the 250: p50, p90, p99, max
	CPU      float64   `json:"cpu"`     // seconds
}

type generator struct {
	address  string
	envelope []byte
	data     []byte
	config   *tls.Config
	perConn  int
	left     atomic.Int64
	accepted atomic.Int64
}

func load(arguments []string) {
	flags := flag.NewFlagSet("load", flag.ExitOnError)
	address := flags.String("address", "127.0.0.1:25", "where to send")
	messages := flags.Int64("messages", 1000, "messages in all; sessions where there is no message in them")
	perConn := flags.Int("per-connection", 1, "messages a connection; 0: only the handshake")
	clients := flags.Int("clients", 20, "connections at a time")
	size := flags.Int("size", 4096, "octets a message")
	recipient := flags.String("recipient", "someone@bench.example", "envelope recipient")
	_ = flags.Parse(arguments)

	one := &generator{address: *address, perConn: *perConn}
	one.envelope = []byte("MAIL FROM:<sender@client.example>\r\nRCPT TO:<" + *recipient + ">\r\nDATA\r\n")
	head := "From: <sender@client.example>\r\nTo: <" + *recipient + ">\r\nSubject: bench\r\n\r\n"
	line := strings.Repeat("x", 70) + "\r\n"
	one.data = []byte(head + strings.Repeat(line, max(1, (*size-len(head))/len(line))) + ".\r\n")
	one.config = &tls.Config{
		// What is measured is the other side, and every subject gets the same client.
		InsecureSkipVerify: true,
		ServerName:         "mx.letterlock.example",
		CurvePreferences:   []tls.CurveID{tls.X25519},
		// A small message is one record in one packet, as mail servers send it. In records of 1,300 octets the last waits
		// for an acknowledgement of those before it, which a server that says nothing to them holds back for 40 ms.
		DynamicRecordSizingDisabled: true,
	}
	one.left.Store(*messages)

	var lock sync.Mutex
	var times []float64
	var problems []string
	var all sync.WaitGroup
	result := Sent{Started: now()}
	for range *clients {
		all.Add(1)
		go func() {
			defer all.Done()
			var mine []float64
			reader := bufio.NewReader(nil)
			for {
				share := one.take()
				if share < 0 {
					break
				}
				if err := one.session(share, reader, &mine); err != nil {
					lock.Lock()
					problems = append(problems, err.Error())
					lock.Unlock()
				}
			}
			lock.Lock()
			times = append(times, mine...)
			lock.Unlock()
		}()
	}
	all.Wait()
	result.Ended = now()
	result.Accepted = one.accepted.Load()
	result.Errors = append([]string{}, problems...)
	result.Latency = quantiles(times)
	result.CPU = cpu()
	say(result)
}

// take says how many messages the next connection sends; negative: there are none left.
func (g *generator) take() int {
	most := int64(max(1, g.perConn))
	before := g.left.Add(-most) + most
	if before <= 0 {
		return -1
	}
	if g.perConn == 0 {
		return 0
	}
	return int(min(before, most))
}

func (g *generator) session(messages int, reader *bufio.Reader, times *[]float64) error {
	began := time.Now()
	plain, err := net.DialTimeout("tcp", g.address, time.Minute)
	if err != nil {
		return err
	}
	defer plain.Close()
	_ = plain.SetDeadline(time.Now().Add(5 * time.Minute))
	// As most mail servers send, and Postfix: with Nagle's algorithm, which Go turns off.
	if connected, ok := plain.(*net.TCPConn); ok {
		_ = connected.SetNoDelay(false)
	}
	reader.Reset(plain)
	talk := func(connection net.Conn, text []byte, wanted ...string) error {
		if text != nil {
			if _, err := connection.Write(text); err != nil {
				return err
			}
		}
		for _, code := range wanted {
			if err := reply(reader, code); err != nil {
				return err
			}
		}
		return nil
	}
	if err := talk(plain, nil, "220"); err != nil {
		return err
	}
	if err := talk(plain, []byte("EHLO client.example\r\n"), "250"); err != nil {
		return err
	}
	if err := talk(plain, []byte("STARTTLS\r\n"), "220"); err != nil {
		return err
	}
	secure := tls.Client(plain, g.config)
	if err := secure.Handshake(); err != nil {
		return err
	}
	reader.Reset(secure)
	if err := talk(secure, []byte("EHLO client.example\r\n"), "250"); err != nil {
		return err
	}
	for range messages {
		if err := talk(secure, g.envelope, "250", "250", "354"); err != nil {
			return err
		}
		if err := talk(secure, g.data, "250"); err != nil {
			return err
		}
		*times = append(*times, time.Since(began).Seconds())
		g.accepted.Add(1)
		began = time.Now()
	}
	if messages == 0 {
		*times = append(*times, time.Since(began).Seconds())
		g.accepted.Add(1)
	}
	return talk(secure, []byte("QUIT\r\n"), "221")
}

// reply reads one reply to its last line; an error unless its code is `wanted`.
func reply(reader *bufio.Reader, wanted string) error {
	for {
		line, err := reader.ReadSlice('\n')
		if err != nil {
			return err
		}
		if !bytes.HasPrefix(line, []byte(wanted)) {
			return fmt.Errorf("wanted %s, got %q", wanted, line)
		}
		if len(line) < 4 || line[3] != '-' {
			return nil
		}
	}
}

// quantiles gives p50, p90, p99 and the maximum; nothing where there is nothing.
func quantiles(times []float64) []float64 {
	if len(times) == 0 {
		return []float64{}
	}
	sort.Float64s(times)
	at := func(part float64) float64 { return times[int(part*float64(len(times)-1))] }
	return []float64{at(0.5), at(0.9), at(0.99), times[len(times)-1]}
}
