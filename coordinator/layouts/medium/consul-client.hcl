datacenter  = "prod"
domain      = "prod.example"
data_dir    = "/var/lib/consul"
bind_addr   = "127.78.0.21"
client_addr = "127.0.0.1"
retry_join  = ["127.78.0.11", "127.78.0.12", "127.78.0.13"]
encrypt     = "cmVwbGFjZS10aGlzLXdpdGgtY29uc3VsLWtleWdlbiE="
acl {
  enabled        = true
  default_policy = "deny"
  tokens {                          # of its node, and read on all services and nodes: see the page
    agent = "00000000-0000-0000-0000-000000000000"
    dns   = "00000000-0000-0000-0000-000000000000"
  }
}
tls {
  defaults {
    ca_file         = "/etc/consul/ca.pem"
    cert_file       = "/etc/consul/client.pem"
    key_file        = "/etc/consul/client-key.pem"
    verify_incoming = true
    verify_outgoing = true
  }
  internal_rpc { verify_server_hostname = true }
}
ports {
  https = 8501
  http  = -1
}
limits { http_max_conns_per_client = 400 }
