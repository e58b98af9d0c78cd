// Package scenarios holds what people do with Services, replayed on a lab: real kubelets, real packets, and a host on the
// nodes' network (client) and one behind a router (remote) for the world outside. There is no code in it but tests.
//
//	go test ./scenarios -v                  makes a lab of three nodes for itself and takes it down
//	go test ./scenarios -v -lab NAME        uses a lab that is up, and leaves it up
//	go test ./scenarios -v -proxy kube-proxy -dns coredns -lb none
//	                                        the control: the same assertions must hold of upstream's parts
//	-run TestHeadless                       one of them
//	-keep                                   leave the lab up that was made
//	-artifacts -outputdir DIR               keep rulesets and logs of failed scenarios
//
// A scenario has a namespace of its own, waits for nothing without a limit, and says what it saw last when it gives up.
// Most of them run side by side. Those that others would notice (that kill an agent or the controller, cut a link, stop the
// API server, or make a thousand Services) do not, and come first: Go runs tests that call t.Parallel after those that do not.
//
// An interrupted run ends its scenarios and takes its lab down, and so does one that has nearly used up what go test -timeout
// gives.
//
// # Files
//
// main_test.go makes or opens the lab. namespace_test.go, await_test.go, hosts_test.go, observe_test.go, services_test.go,
// seamark_test.go, provider_controller_test.go, provider_objects_test.go and dump_test.go are the words that the scenarios are written in;
// testdata/ has the manifests, under the names that introductions to Services use. Every other file is a subject.
package scenarios
