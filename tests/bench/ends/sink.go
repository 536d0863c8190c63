package main

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"flag"
	"net"
	"os"
	"sync/atomic"
)

// Taken is what came in since the last reset.
type Taken struct {
	Count int64   `json:"count"`
	Last  float64 `json:"last"` // Unix seconds of the last message
	CPU   float64 `json:"cpu"`  // seconds since the start
}

type receiver struct {
	config *tls.Config
	count  atomic.Int64
	last   atomic.Int64
}

// sink takes mail on a port of loopback until its standard input ends; each line there is a question: `count` or `reset`.
func sink(arguments []string) {
	flags := flag.NewFlagSet("sink", flag.ExitOnError)
	port := flags.String("address", "127.0.0.1:0", "where to listen")
	pem := flags.String("certificate", "", "PEM file, key and certificate")
	_ = flags.Parse(arguments)
	pair, err := tls.LoadX509KeyPair(*pem, *pem)
	if err != nil {
		fail(err)
	}
	listening, err := net.Listen("tcp", *port)
	if err != nil {
		fail(err)
	}
	one := &receiver{config: &tls.Config{Certificates: []tls.Certificate{pair}}}
	go one.serve(listening)
	say(map[string]string{"address": listening.Addr().String()})
	questions := bufio.NewScanner(os.Stdin)
	for questions.Scan() {
		if questions.Text() == "reset" {
			one.count.Store(0)
		}
		say(Taken{one.count.Load(), float64(one.last.Load()) / 1e9, cpu()})
	}
}

func (r *receiver) serve(listening net.Listener) {
	for {
		connection, err := listening.Accept()
		if err != nil {
			return
		}
		go r.session(connection)
	}
}

// session speaks as much SMTP as relays that behave need, and takes everything.
func (r *receiver) session(connection net.Conn) {
	defer func() { connection.Close() }()
	reader := bufio.NewReaderSize(connection, 1<<16)
	var out bytes.Buffer
	secure := false
	out.WriteString("220 sink.bench.example ESMTP\r\n")
	for {
		if reader.Buffered() == 0 {
			if _, err := connection.Write(out.Bytes()); err != nil {
				return
			}
			out.Reset()
		}
		line, err := reader.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch verb := string(bytes.ToUpper(line[:4])); verb {
		case "EHLO":
			out.WriteString("250-sink.bench.example\r\n250-PIPELINING\r\n250-8BITMIME\r\n")
			if !secure {
				out.WriteString("250-STARTTLS\r\n")
			}
			out.WriteString("250 SMTPUTF8\r\n")
		case "STAR":
			out.WriteString("220 2.0.0 go ahead\r\n")
			if _, err := connection.Write(out.Bytes()); err != nil {
				return
			}
			out.Reset()
			connection = tls.Server(connection, r.config)
			reader.Reset(connection)
			secure = true
		case "DATA":
			out.WriteString("354 go ahead\r\n")
			if _, err := connection.Write(out.Bytes()); err != nil {
				return
			}
			out.Reset()
			if err := text(reader); err != nil {
				return
			}
			r.count.Add(1)
			r.last.Store(int64(now() * 1e9))
			out.WriteString("250 2.0.0 taken\r\n")
		case "QUIT":
			out.WriteString("221 2.0.0 bye\r\n")
			_, _ = connection.Write(out.Bytes())
			return
		default:
			out.WriteString("250 2.0.0 ok\r\n")
		}
	}
}

// text reads a message up to its final dot.
func text(reader *bufio.Reader) error {
	whole := true
	for {
		line, err := reader.ReadSlice('\n')
		if err == bufio.ErrBufferFull {
			whole = false
			continue
		}
		if err != nil {
			return err
		}
		if whole && bytes.Equal(line, []byte(".\r\n")) {
			return nil
		}
		whole = true
	}
}
