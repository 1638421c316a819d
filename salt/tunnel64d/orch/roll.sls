# Rolls the formula over the ends of tunnels, one after the other; stops at the first that does not
# come back. On the master:
#
#   salt-run state.orchestrate tunnel64d.orch.roll pillar='{"roll": {"minions": ["gw1", "gw2"]}}'
#
# Beside `minions`: `timeout`, the seconds that a tunnel may take to be connected again (60).
---
{%- set roll = salt['pillar.get']('roll', {}) %}
{%- set minions = roll.get('minions', []) %}
{%- set timeout = roll.get('timeout', 60) %}
{%- if not minions %}

tunnel64d-roll:
  test.fail_without_changes:
    - comment: no minions are named (pillar key roll:minions, in the order in which to go)
{%- else %}

# What the minions know of the formula is the master's version of it.
tunnel64d-modules:
  salt.function:
    - name: saltutil.sync_all
    - tgt: {{ minions | json }}
    - tgt_type: list

# Keys before everything else: each end needs the other's public one.
tunnel64d-keys:
  salt.state:
    - tgt: {{ minions | json }}
    - tgt_type: list
    - expect_minions: true
    - sls: tunnel64d.keys
    - require:
      - salt: tunnel64d-modules

tunnel64d-mine:
  salt.function:
    - name: mine.send
    - tgt: {{ minions | json }}
    - tgt_type: list
    - arg:
      - tunnel64d.pubkeys
    - require:
      - salt: tunnel64d-keys
{%- set before = namespace(id='tunnel64d-mine') %}
{%- for minion in minions %}

tunnel64d-roll-{{ minion }}:
  salt.state:
    - tgt: {{ minion | json }}
    - tgt_type: list
    - expect_minions: true
    - sls: tunnel64d
    - pillar:
        tunnel64d:
          service:
            roll_timeout: {{ timeout }}
    - require:
      - salt: {{ before.id }}
{%- set before.id = 'tunnel64d-roll-' ~ minion %}
{%- endfor %}

tunnel64d-connected:
  salt.function:
    - name: tunnel64d.wait_connected
    - tgt: {{ minions | json }}
    - tgt_type: list
    - kwarg:
        timeout: {{ timeout }}
    - require:
      - salt: {{ before.id }}
{%- endif %}
