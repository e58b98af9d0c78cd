// Package outputs runs the commands of a page of documentation in a lab and puts what they print in their place, so that
// every output that a reader sees is real, and can be made anew.
//
// The page says in comments, which a reader does not see, what is to be run:
//
//	<!-- first
//	…
//	-->
//
// is a script for bash that is run here; a line NAME=VALUE that it prints sets a variable for what comes after it.
//
//	<!-- apply -->
//
// stands before a block of YAML, which is applied.
//
//	<!-- outputs -->
//
// stands before a block of commands, each a line that begins with "$ ", or several that end with '\'. They are run, and the
// lines between them are replaced by what they print, but for blanks at the end of a line.
//
// Text → [Parse] (pure) → [Page.Run], with a [Shell] on the lab's control plane → text.
package outputs
