"""JMAP (RFC 8620, RFC 8621) and the web face of the server."""
