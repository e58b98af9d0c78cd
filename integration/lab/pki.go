package lab

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// Places inside a host, laid out as by kubeadm.
const (
	kubeDir   = "/etc/kubernetes"
	pkiDir    = kubeDir + "/pki"
	adminConf = kubeDir + "/admin.conf"
)

// pemPair is a certificate and its key, PEM encoded.
type pemPair struct{ cert, key []byte }

// authority is the cluster's certificate authority.
type authority struct {
	pemPair
	x509 *x509.Certificate
	key  crypto.Signer
}

// subject is who a certificate is for: a user of the API (name, groups), or a
// server (names and addresses), or both.
type subject struct {
	user   string
	groups []string
	names  []string
	addrs  []netip.Addr
}

// newAuthority makes a certificate authority that is valid for ten years.
func newAuthority() (*authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "kubernetes"},
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		IsCA:                  true,
		BasicConstraintsValid: true,
	}
	pair, err := sign(template, key, template, key)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(pair.cert)
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	return &authority{pemPair: pair, x509: cert, key: key}, nil
}

// issue makes a key and a certificate for it.
func (a *authority) issue(s subject) (pemPair, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pemPair{}, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: s.user, Organization: s.groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		DNSNames:    s.names,
	}
	for _, addr := range s.addrs {
		template.IPAddresses = append(template.IPAddresses, net.IP(addr.AsSlice()))
	}
	if len(s.addrs)+len(s.names) > 0 {
		template.ExtKeyUsage = append(template.ExtKeyUsage, x509.ExtKeyUsageServerAuth)
	}
	pair, err := sign(template, key, a.x509, a.key)
	if err != nil {
		return pemPair{}, fmt.Errorf("certificate for %s: %w", s.user, err)
	}
	return pair, nil
}

func sign(template *x509.Certificate, key *ecdsa.PrivateKey, parent *x509.Certificate, parentKey crypto.Signer) (pemPair, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return pemPair{}, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(10, 0, 0)
	cert, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), parentKey)
	if err != nil {
		return pemPair{}, err
	}
	keyPEM, err := encodeKey(key)
	if err != nil {
		return pemPair{}, err
	}
	return pemPair{cert: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), key: keyPEM}, nil
}

func encodeKey(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}

// newServiceAccountKey returns the pair that signs and verifies the tokens of
// service accounts.
func newServiceAccountKey() (private, public []byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if private, err = encodeKey(key); err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return nil, nil, err
	}
	return private, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// kubeconfig returns a kubeconfig file for a user of the API server.
func kubeconfig(lab, server string, ca []byte, user string, pair pemPair) ([]byte, error) {
	config := clientcmdapi.NewConfig()
	config.Clusters[lab] = &clientcmdapi.Cluster{Server: server, CertificateAuthorityData: ca}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{ClientCertificateData: pair.cert, ClientKeyData: pair.key}
	config.Contexts[lab] = &clientcmdapi.Context{Cluster: lab, AuthInfo: user}
	config.CurrentContext = lab
	return clientcmd.Write(*config)
}

// credentials makes all certificates and kubeconfigs of the lab and writes them
// to where they are used: into the hosts' /etc, which keep them when switched
// off, and into the lab's folder for use from the machine.
func (l *Lab) credentials() error {
	ca, err := newAuthority()
	if err != nil {
		return fmt.Errorf("certificate authority: %w", err)
	}
	frontProxy, err := newAuthority()
	if err != nil {
		return fmt.Errorf("front proxy's certificate authority: %w", err)
	}
	saKey, saPub, err := newServiceAccountKey()
	if err != nil {
		return fmt.Errorf("service account key: %w", err)
	}
	w := credentialWriter{lab: l, ca: ca}
	w.file("cp", pkiDir+"/ca.key", ca.pemPair.key)
	w.file("cp", pkiDir+"/front-proxy-ca.crt", frontProxy.cert)
	w.file("cp", pkiDir+"/sa.key", saKey)
	w.file("cp", pkiDir+"/sa.pub", saPub)
	w.pair("cp", "apiserver", subject{user: "kube-apiserver", names: apiServerNames(), addrs: l.plan.apiServerAddrs()})
	w.pair("cp", "apiserver-kubelet-client", subject{user: "kube-apiserver-kubelet-client", groups: []string{"system:masters"}})
	w.kubeconfig("cp", "controller-manager.conf", subject{user: "system:kube-controller-manager"})
	w.kubeconfig("cp", "scheduler.conf", subject{user: "system:kube-scheduler"})
	for _, node := range l.plan.Nodes() {
		w.pair(node.Name, "kubelet", subject{user: node.Name, names: []string{node.Name}, addrs: node.Addrs()})
		w.kubeconfig(node.Name, "kubelet.conf", subject{user: "system:node:" + node.Name, groups: []string{"system:nodes"}})
		w.kubeconfig(node.Name, "kube-proxy.conf", subject{user: "system:kube-proxy"})
	}

	admin := subject{user: "kubernetes-admin", groups: []string{"system:masters"}}
	for _, h := range l.plan.Hosts {
		w.file(h.Name, pkiDir+"/ca.crt", ca.cert)
		w.kubeconfig(h.Name, "admin.conf", admin)
	}
	w.machineKubeconfig(admin)
	return w.err
}

// credentialWriter issues and writes; after the first error it does nothing.
type credentialWriter struct {
	lab *Lab
	ca  *authority
	err error
}

func (w *credentialWriter) file(host, path string, content []byte) {
	if w.err == nil {
		w.err = writeFile(w.lab.hosts[host].dir(path), content)
	}
}

func (w *credentialWriter) issue(s subject) pemPair {
	if w.err != nil {
		return pemPair{}
	}
	pair, err := w.ca.issue(s)
	w.err = err
	return pair
}

func (w *credentialWriter) pair(host, name string, s subject) {
	pair := w.issue(s)
	w.file(host, pkiDir+"/"+name+".crt", pair.cert)
	w.file(host, pkiDir+"/"+name+".key", pair.key)
}

func (w *credentialWriter) render(server string, s subject) []byte {
	pair := w.issue(s)
	if w.err != nil {
		return nil
	}
	var text []byte
	text, w.err = kubeconfig(w.lab.opts.Name, server, w.ca.cert, s.user, pair)
	return text
}

func (w *credentialWriter) kubeconfig(host, name string, s subject) {
	w.file(host, kubeDir+"/"+name, w.render("https://"+w.lab.plan.API.String(), s))
}

func (w *credentialWriter) machineKubeconfig(s subject) {
	text := w.render("https://"+w.lab.server, s)
	if w.err == nil {
		w.err = writeFile(w.lab.Kubeconfig(), text)
	}
}
