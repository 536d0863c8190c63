// Verifies certificates as programs in Go do: strict FILE NAME, for a server and for a client of that name, with the
// certificate in FILE as the only one that is trusted; and the request in FILE.csr by its own signature.
package main

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

func main() {
	for _, file := range os.Args[2:] {
		if err := verified(file, os.Args[1]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", file, err)
			os.Exit(1)
		}
	}
}

func verified(file, name string) error {
	leaf, err := x509.ParseCertificate(der(file))
	if err != nil {
		return err
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth} {
		options := x509.VerifyOptions{DNSName: name, Roots: roots, KeyUsages: []x509.ExtKeyUsage{usage}}
		if _, err := leaf.Verify(options); err != nil {
			return err
		}
	}
	request, err := x509.ParseCertificateRequest(der(file + ".csr"))
	if err != nil {
		return err
	}
	return request.CheckSignature()
}

func der(file string) []byte {
	content, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	block, _ := pem.Decode(content)
	return block.Bytes
}
