// Package demo shows Seamark's main job on a lab, step by step, with the commands that a person would type and what they
// print: a Service gets an address, is reached from the LAN by ARP and from behind a router by BGP, survives that the node
// which announces it loses its link, and leaves nothing behind when it is deleted.
//
// Every step checks what it shows. The first that finds something else than it expects ends the demo, and says both.
//
// # Flow
//
// [Up] makes a lab and walks through the steps of steps.go, which speak through a [tour]: it prints headings, runs commands
// of the lab's hosts and of kubectl, and prints them with their output. [Down] removes the lab.
package demo
