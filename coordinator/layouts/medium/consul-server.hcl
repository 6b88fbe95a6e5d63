server           = true
bootstrap_expect = 3
datacenter       = "prod"
domain           = "prod.example"
data_dir         = "/var/lib/consul"
bind_addr        = "127.78.0.11"    # 12 and 13 on the others
client_addr      = "127.78.0.11"
retry_join       = ["127.78.0.11", "127.78.0.12", "127.78.0.13"]
encrypt          = "cmVwbGFjZS10aGlzLXdpdGgtY29uc3VsLWtleWdlbiE="  # of your own: `consul keygen`; gossip_key_file has it
acl {
  enabled                  = true
  default_policy           = "deny"
  enable_token_persistence = true
}
tls {
  defaults {
    ca_file         = "/etc/consul/ca.pem"
    cert_file       = "/etc/consul/server.pem"     # for server.prod.prod.example
    key_file        = "/etc/consul/server-key.pem"
    verify_incoming = true
    verify_outgoing = true
  }
  internal_rpc { verify_server_hostname = true }
}
auto_encrypt { allow_tls = true }   # machines have a token and gossip's key, and get certificates from the servers
connect { enabled = true }          # needed for that
ports {
  server = 8300                     # the default: it is asked before anything else is known
  https  = 8501
  http   = -1
}
limits { http_max_conns_per_client = 400 }  # where one address asks for more than 90 services
