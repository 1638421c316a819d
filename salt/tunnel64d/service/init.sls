---
include:
  - tunnel64d.service.running
