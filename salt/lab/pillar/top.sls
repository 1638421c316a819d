---
base:
  VM1:
    - vm1
  VM2:
    - vm2
  VM3:
    - vm3
  VM1-6:
    - vm1-6
  VM2-6:
    - vm2-6
  VM3-6:
    - vm3-6
