import Foundation
import Testing

/// Three nodes on one PostgreSQL: any of them answers for all.
@Suite(.serialized) struct ClusterTests {
    @Test func everyNodeListsTheSameNodes() throws {
        let cluster = try Cluster()
        for node in cluster.nodes {
            let names = try node.get("/v1/nodes").items.compactMap { $0["node_id"] as? String }
            #expect(names == ["a", "b", "c"])
        }
    }
}
