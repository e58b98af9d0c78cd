// Empty: the compiler takes functions without a body, as those of poll.go, only in a package with a file of assembly.
