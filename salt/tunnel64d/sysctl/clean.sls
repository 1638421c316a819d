---
tunnel64d-sysctl-absent:
  tunnel64d_sysctl.absent:
    - name: /etc/sysctl.d/60-tunnel64d.conf
