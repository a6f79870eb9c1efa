"""The grammar of JMAP: requests, references, arguments, filters; pure."""
