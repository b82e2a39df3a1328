/// The bounds of what a peer may send, each with its reason.
package struct HTTPLimits: Sendable, Hashable {
    /// Request line without CRLF; RFC 9112 section 3 wants at least 8000 octets. Above it: 414.
    package var requestLineBytes = 8_192
    /// A method; the longest registered one (UPDATEREDIRECTREF) has 17 characters. Above it: 400.
    package var methodBytes = 32
    /// All field lines of a head with their CRLFs; what a reverse proxy with large cookies sends fits.
    /// Above it: 431.
    package var fieldSectionBytes = 32_768
    /// Field lines of a head; bounds the list that lookups walk. Above it: 431.
    package var fieldCount = 100
    /// Empty lines before a request line: old clients send one after a body (RFC 9112 section 2.2).
    /// Above it: 400.
    package var leadingEmptyLines = 1
    /// Content of a request unless the handler says otherwise; the admin API's documents are far smaller.
    /// Above it: 413.
    package var bodyBytes = 1_048_576
    /// One chunk's line: its size and extensions, of which nothing is used. Above it: 400.
    package var chunkLineBytes = 256
    /// Chunk lines and chunk ends of one body together; many tiny chunks would cost more than they carry.
    /// Above it: 413.
    package var chunkOverheadBytes = 1_048_576
    /// The trailer section; nothing in the product needs one. Above it: 431.
    package var trailerBytes = 4_096
    /// Field lines of a trailer section. Above it: 431.
    package var trailerCount = 16
    /// Requests taken from a connection and not answered yet; further ones wait unparsed.
    package var requestsInFlight = 16
    /// Status line and field lines of a response that our client reads.
    package var responseHeadBytes = 65_536
    /// 1xx responses before the final one that our client reads.
    package var interimResponses = 8

    package init() {}
}
