"""The bus: CloudEvents over Kafka, two verbs (`Worker` consumes, `Follower` follows), an outbox relay, and a twin.

Import from the modules: `events`, `ports`, `kafka`, `memory`, `worker`, `delays`, `follower`, `outbox`, `topics`,
`security`, `shadow`.
"""
