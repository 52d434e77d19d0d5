"""What `main.py --list` prints."""

import agents
import envs


def listing() -> str:
    """The known agents, environments and protocols."""
    lines = ["agents (--agent), by family"]
    for family in dict.fromkeys(agent.family for agent in agents.AGENTS.values()):
        lines.append(f"  {family}")
        for name, agent in agents.AGENTS.items():
            if agent.family == family:
                lines.append(f"    {name:<18} {(agent.__doc__ or '').splitlines()[0]}")
    lines.append("environments (--env; --tasks=1,2,... or all)")
    for domain in envs.DOMAINS.values():
        several = f"tasks 1-{domain.num_tasks}, default {domain.default_task}"
        lines.append(
            f"  {domain.name:<20} {domain.title:<28} {several if domain.num_tasks > 1 else 'one task'}; "
            f"O={domain.observation_dim} A={domain.action_dim} H={domain.horizon}{_kind(domain)}"
        )
    lines.append("protocols (--protocol)")
    lines += [f"  {protocol.name:<20} {protocol.description}" for protocol in envs.PROTOCOLS.values()]
    return "\n".join(lines)


def _kind(domain: envs.Domain) -> str:
    """Where a suite has a benchmark, whether the domain is of it."""
    if domain.benchmark:
        return "; benchmark"
    return "; for tests and demos" if envs.suite_of(domain).benchmark else ""
