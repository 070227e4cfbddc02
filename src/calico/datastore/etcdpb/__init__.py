"""The messages of etcd that we use; etcd_pb2 is generated from etcd.proto by scripts/generate-etcd-messages."""
