# Forwarding, in a file of its own. An uplink that lives on router advertisements goes on listening
# to them with accept_ra = 2.
---
{%- from 'tunnel64d/map.jinja' import sysctl with context %}

include:
  - tunnel64d.pillar
{%- set values = {} %}
{%- if sysctl.forward_ipv6 is not none %}
{%- do values.update({'net.ipv6.conf.all.forwarding': sysctl.forward_ipv6 | int}) %}
{%- endif %}
{%- if sysctl.forward_ipv4 is not none %}
{%- do values.update({'net.ipv4.ip_forward': sysctl.forward_ipv4 | int}) %}
{%- endif %}
{%- for interface in sysctl.accept_ra or [] %}
{%- do values.update({'net/ipv6/conf/' ~ interface ~ '/accept_ra': 2}) %}
{%- endfor %}
{%- do values.update(sysctl.get('values') or {}) %}

tunnel64d-sysctl:
  {%- if values %}
  tunnel64d_sysctl.present:
    - values: {{ values | json }}
  {%- else %}
  tunnel64d_sysctl.absent:
  {%- endif %}
    - name: /etc/sysctl.d/60-tunnel64d.conf
