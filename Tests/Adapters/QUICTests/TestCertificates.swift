/// Self-signed P-256 certificates for pop.test and 127.0.0.1, valid for a hundred years; for tests only.
enum TestCertificates {
    static let oneCertificate = Array(
        """
        -----BEGIN CERTIFICATE-----
        MIIBlzCCAT6gAwIBAgIUQXhwfDgcJkNhYVv4QQPI7olVNs0wCgYIKoZIzj0EAwIw
        EzERMA8GA1UEAwwIcG9wLnRlc3QwIBcNMjYxMTIzMTk1NTIyWhgPMjEyNjEwMzAx
        OTU1MjJaMBMxETAPBgNVBAMMCHBvcC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
        AQcDQgAEonwo/J1cemsx4uXLHdPlzgLee1akHFY9m9/IAGTHOU8pfEo4ncgnKxOX
        H0ih1CurUQ3GHe47LsEaMGUw3f+2saNuMGwwHQYDVR0OBBYEFIB1II44ZZcDtyZw
        U8qeFf7qEqO0MB8GA1UdIwQYMBaAFIB1II44ZZcDtyZwU8qeFf7qEqO0MBkGA1Ud
        EQQSMBCCCHBvcC50ZXN0hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0E
        AwIDRwAwRAIgeP1v3kT9RkrMCEDBxxoak0o36GKeQw96f35eVgO1fxgCIGRUE/1z
        5Hjpa+sy4AMxgVzIcrc1PKqaVXmj6/oU/t7L
        -----END CERTIFICATE-----

        """.utf8)
    static let oneKey = Array(
        """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgmsi85yh24tMJB8Wh
        2gst2s1ZyxOh3ffOkUfZLYRVuQqhRANCAASifCj8nVx6azHi5csd0+XOAt57VqQc
        Vj2b38gAZMc5Tyl8SjidyCcrE5cfSKHUK6tRDcYd7jsuwRowZTDd/7ax
        -----END PRIVATE KEY-----

        """.utf8)
    static let twoCertificate = Array(
        """
        -----BEGIN CERTIFICATE-----
        MIIBmDCCAT6gAwIBAgIUByc2V7c6rzsd92/GdNwbwnvXDTUwCgYIKoZIzj0EAwIw
        EzERMA8GA1UEAwwIcG9wLnRlc3QwIBcNMjYxMTIzMTk1NTIyWhgPMjEyNjEwMzAx
        OTU1MjJaMBMxETAPBgNVBAMMCHBvcC50ZXN0MFkwEwYHKoZIzj0CAQYIKoZIzj0D
        AQcDQgAEsIpfpZt3sHhVd5+7TYVtopzgaBzeoU/TPX4qPgLhCLv6fli2lPZnyPXU
        TjcWy0X1mG2TzdSWNXhQNqhsOhu/IKNuMGwwHQYDVR0OBBYEFGOLgurqa1S/+9i7
        VfCRaMQhNoR9MB8GA1UdIwQYMBaAFGOLgurqa1S/+9i7VfCRaMQhNoR9MBkGA1Ud
        EQQSMBCCCHBvcC50ZXN0hwR/AAABMA8GA1UdEwEB/wQFMAMBAf8wCgYIKoZIzj0E
        AwIDSAAwRQIhAImBOCGP7UvFN0zsMiiV6G+HT3Eqj8nFizk+SknFAOQvAiBRh4K4
        QMHyhgNVsfg6HSnC6m4Mbu3AGZUOZNJZStFhig==
        -----END CERTIFICATE-----

        """.utf8)
    static let twoKey = Array(
        """
        -----BEGIN PRIVATE KEY-----
        MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgtfJEWpKMlfoUgC1M
        1B6UaKkGj3UU6AMnD+KT6WlaPhihRANCAASwil+lm3eweFV3n7tNhW2inOBoHN6h
        T9M9fio+AuEIu/p+WLaU9mfI9dRONxbLRfWYbZPN1JY1eFA2qGw6G78g
        -----END PRIVATE KEY-----

        """.utf8)
}
