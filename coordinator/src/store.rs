//! Durable state and history, in one `redb` database on local disk.
