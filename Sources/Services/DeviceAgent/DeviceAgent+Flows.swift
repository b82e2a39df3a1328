internal import DeviceProtocol
internal import Domain
internal import EventLoop
internal import Logging

extension DeviceAgent: AgentFlowsOwner {
    func flowOpened(_ flow: AgentFlow, of session: AgentSessionNumber, at address: SocketAddress) {
        log.trace("flow opened", metadata: ["conn_id": "\(flow.connID)"])
        perform(
            machine.flowOpened(
                session, flow.connID, resolvedAddress: address.description,
                connectTimeMilliseconds: flow.elapsedMilliseconds, now: loop.now))
    }

    func flowFailed(_ flow: AgentFlow, of session: AgentSessionNumber, _ error: OpenError, _ text: String) {
        log.debug(
            "flow not opened",
            metadata: ["conn_id": "\(flow.connID)", "error": "\(error)", "cause": "\(text)"])
        perform(
            machine.connFailed(
                session, flow.connID, error, String(text.prefix(Self.longestText)),
                resolvedAddress: flow.address?.description ?? "",
                connectTimeMilliseconds: flow.elapsedMilliseconds, now: loop.now))
    }

    func flowEnded(
        _ flow: AgentFlow, of session: AgentSessionNumber, _ reason: CloseReason, _ detail: String
    ) {
        log.trace("flow ended", metadata: ["conn_id": "\(flow.connID)", "reason": "\(reason)"])
        links[session]?.bytesSent &+= flow.bytesSent
        links[session]?.bytesReceived &+= flow.bytesReceived
        let closed = ConnClosed(
            connID: flow.connID, reason: reason, detail: String(detail.prefix(Self.longestText)),
            bytesSent: flow.bytesSent, bytesReceived: flow.bytesReceived)
        perform(machine.connEnded(session, closed, now: loop.now))
    }
}
