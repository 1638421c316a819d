# Everything that the formula has brought; keys and the package's own leftovers with `purge: True`.
---
include:
  - tunnel64d.service.clean
  - tunnel64d.config.clean
  - tunnel64d.keys.clean
  - tunnel64d.routes.clean
  - tunnel64d.sysctl.clean
  - tunnel64d.package.clean
