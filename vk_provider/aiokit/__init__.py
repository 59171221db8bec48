"""asyncio tools that know nothing of Kubernetes or clouds: supervisor, keyed work queue, back-off, batching."""
