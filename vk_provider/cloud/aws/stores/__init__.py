"""Prepared image stores on EC2 (cloud.imagestores): one EBS snapshot for each set, made by a builder instance.

An instance that is launched with a store gets a volume of its snapshot; what it does with it is manifests/aws/
image-store.sh. All that is known of stores and of builds under way is in the tags of snapshots and builders.
"""
