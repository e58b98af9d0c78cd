package wire

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"

	"github.com/seamark-io/seamark/speaker/liveness"
)

const (
	magic   = 0x536d // "Sm"
	version = 1

	// headerSize: magic, version and whether it is prompt, the segment's tag, key id, sender, incarnation, sequence number.
	headerSize = 2 + 1 + 1 + 4 + 8 + 8 + 4
	tagSize    = 16
	// Overhead is what a frame has besides the heartbeat's own bytes.
	Overhead = headerSize + tagSize
	// MinSecret is the least length of a Secret's value in bytes.
	MinSecret = 16
	// maxSenders bounds the derived keys that are kept.
	maxSenders = 1024
)

// Tag is a byte by which most frames of other segments on the same link are told before anything else is done with them: an
// interface with an IPv4 and an IPv6 subnet is in two.
func Tag(segment string) byte {
	h := fnv.New32a()
	_, _ = h.Write([]byte(segment))
	sum := h.Sum32()
	return byte(sum ^ sum>>8 ^ sum>>16 ^ sum>>24)
}

// Magic are the first two bytes of a frame, TagOffset is where the Tag is, and the bits PromptBit of the byte at PromptOffset say
// whether it is prompt; for filters in the kernel.
const (
	Magic        = magic
	PromptOffset = 2
	PromptBit    = 0x80
	TagOffset    = 3
)

// Keys are those of one segment. They are not changed any more.
type Keys struct {
	tag    byte
	send   *key
	accept []*key
}

// key is derived from one Secret.
type key struct {
	id      uint32
	segment string
	prk     []byte
}

// NewKeys returns the keys of a segment from the bytes of Secrets: one to send with, and others to accept as well, while
// they are being rotated. To rotate, add the new one to those that all nodes accept, then send with it everywhere, then take
// away the old one.
func NewKeys(segment string, send []byte, accept ...[]byte) (*Keys, error) {
	k := &Keys{tag: Tag(segment)}
	for i, secret := range append([][]byte{send}, accept...) {
		if len(secret) < MinSecret {
			return nil, fmt.Errorf("key %d of segment %s has %d bytes, the least is %d", i+1, segment, len(secret), MinSecret)
		}
		prk, err := hkdf.Extract(sha256.New, secret, []byte("seamark liveness 1"))
		if err != nil {
			return nil, fmt.Errorf("derive key of segment %s: %w", segment, err)
		}
		id, err := hkdf.Expand(sha256.New, prk, "id\x00"+segment, 4)
		if err != nil {
			return nil, fmt.Errorf("derive key of segment %s: %w", segment, err)
		}
		k.accept = append(k.accept, &key{binary.BigEndian.Uint32(id), segment, prk})
	}
	k.send = k.accept[0]
	return k, nil
}

// sender returns the cipher for what one node sends.
func (k *key) sender(node liveness.NodeID) (cipher.AEAD, error) {
	info := binary.BigEndian.AppendUint64([]byte("from\x00"+k.segment+"\x00"), uint64(node))
	raw, err := hkdf.Expand(sha256.New, k.prk, string(info), 32)
	if err != nil {
		return nil, fmt.Errorf("derive sender's key: %w", err)
	}
	block, err := aes.NewCipher(raw)
	if err != nil {
		return nil, fmt.Errorf("make cipher: %w", err)
	}
	return cipher.NewGCM(block)
}

// Sealer seals what this node sends, in one incarnation. It is for one goroutine.
type Sealer struct {
	tag  byte
	key  *key
	aead cipher.AEAD
	last uint32
	// plain is reused.
	plain []byte
}

// SetKeys has the sealer use the sending key.
func (s *Sealer) SetKeys(k *Keys, node liveness.NodeID) error {
	aead, err := k.send.sender(node)
	if err != nil {
		return err
	}
	s.tag, s.key, s.aead = k.tag, k.send, aead
	return nil
}

// ErrNonce is for a sequence number that does not follow the last one: sealing with it could use a nonce twice.
var ErrNonce = errors.New("sequence numbers must ascend")

// Seal appends the frame for a heartbeat, which is prompt or not (liveness.Outgoing).
func (s *Sealer) Seal(frame []byte, h *liveness.Heartbeat, prompt bool) ([]byte, error) {
	if s.aead == nil {
		return frame, errors.New("no key")
	}
	if h.Seq <= s.last {
		return frame, fmt.Errorf("%w: %d after %d", ErrNonce, h.Seq, s.last)
	}
	s.last = h.Seq
	start := len(frame)
	frame = binary.BigEndian.AppendUint16(frame, magic)
	frame = append(frame, version|flag(prompt, PromptBit), s.tag)
	frame = binary.BigEndian.AppendUint32(frame, s.key.id)
	frame = binary.BigEndian.AppendUint64(frame, uint64(h.From))
	frame = binary.BigEndian.AppendUint64(frame, h.Incarnation)
	frame = binary.BigEndian.AppendUint32(frame, h.Seq)
	header := frame[start:]
	s.plain = appendHeartbeat(s.plain[:0], h)
	return s.aead.Seal(frame, header[headerSize-12:], s.plain, header), nil
}

// Result of opening a frame.
type Result uint8

// The results. Opened is the only one with a heartbeat.
const (
	Opened Result = iota
	// Foreign: it is no frame of this protocol, or one of another segment on the same link.
	Foreign
	// OtherVersion: it is one of a version that this node does not speak.
	OtherVersion
	// UnknownKey: it was sealed with a key that this node does not have.
	UnknownKey
	// Forged: it was not sealed with the key that it names, or was changed on the way.
	Forged
	// Malformed: it was sealed with the key, and cannot be read.
	Malformed

	// Results is their number.
	Results = int(Malformed) + 1
)

// String returns the result as the value of a metric's label.
func (r Result) String() string {
	return [Results]string{"opened", "foreign", "other_version", "unknown_key", "forged", "malformed"}[r]
}

// Opener opens frames of other nodes. It is for one goroutine.
type Opener struct {
	keys *Keys
	// senders are the ciphers of those who have proved to have the key, so that others cannot fill it.
	senders map[senderKey]cipher.AEAD
	plain   []byte
}

type senderKey struct {
	key  uint32
	node liveness.NodeID
}

// SetKeys has the opener accept these keys and no others.
func (o *Opener) SetKeys(k *Keys) {
	o.keys, o.senders = k, map[senderKey]cipher.AEAD{}
}

// Open reads a frame into h, whose slices it reuses. h is of no use unless the result is Opened.
func (o *Opener) Open(frame []byte, h *liveness.Heartbeat) Result {
	if len(frame) < Overhead || binary.BigEndian.Uint16(frame) != magic {
		return Foreign
	}
	if frame[PromptOffset]&^PromptBit != version {
		return OtherVersion
	}
	if o.keys != nil && frame[TagOffset] != o.keys.tag {
		return Foreign
	}
	h.From = liveness.NodeID(binary.BigEndian.Uint64(frame[8:]))
	h.Incarnation = binary.BigEndian.Uint64(frame[16:])
	h.Seq = binary.BigEndian.Uint32(frame[24:])
	if o.keys == nil {
		return UnknownKey
	}
	result := UnknownKey
	id := binary.BigEndian.Uint32(frame[4:])
	for _, k := range o.keys.accept {
		if k.id != id {
			continue
		}
		if o.open(k, frame, h.From) {
			if decodeHeartbeat(o.plain, h) != nil {
				return Malformed
			}
			return Opened
		}
		result = Forged
	}
	return result
}

func (o *Opener) open(k *key, frame []byte, from liveness.NodeID) bool {
	sk := senderKey{k.id, from}
	aead, known := o.senders[sk]
	if !known {
		var err error
		if aead, err = k.sender(from); err != nil {
			return false
		}
	}
	var err error
	o.plain, err = aead.Open(o.plain[:0], frame[headerSize-12:headerSize], frame[headerSize:], frame[:headerSize])
	if err != nil {
		o.plain = o.plain[:0]
		return false
	}
	if !known && len(o.senders) < maxSenders {
		o.senders[sk] = aead
	}
	return true
}
