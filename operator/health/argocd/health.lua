-- Argo CD's health of EventType, EventSubscription and EventReplay, from their kstatus conditions.
-- One answer for all three kinds; `../flux/healthcheckexprs.yaml` says the same in CEL, and a test holds them together.

local function answer(status, message)
  return {status = status, message = message}
end

-- What the operator has not said about this generation of the spec, it has not said.
local function condition(wanted)
  for _, each in ipairs(obj.status.conditions) do
    local stale = each.observedGeneration ~= nil and each.observedGeneration ~= obj.metadata.generation
    if each.type == wanted and not stale then
      return each
    end
  end
  return {status = "Unknown"}
end

-- The first message that there is, else the first reason: Stalled may leave it to Ready to say what is wrong.
local function said(first, second)
  for _, each in ipairs({first, second}) do
    if each.message ~= nil and each.message ~= "" then
      return each.message
    end
  end
  return first.reason or "Waiting for the Tidings operator"
end

if obj.status == nil or obj.status.conditions == nil then
  return answer("Progressing", "Waiting for the Tidings operator")
end
if obj.status.observedGeneration ~= nil and obj.status.observedGeneration ~= obj.metadata.generation then
  return answer("Progressing", "Waiting for the Tidings operator to look at the latest change")
end

local ready, reconciling, stalled = condition("Ready"), condition("Reconciling"), condition("Stalled")
if reconciling.status == "True" then
  return answer("Progressing", said(reconciling, ready))
end
if stalled.status == "True" then
  return answer("Degraded", said(stalled, ready))
end
if ready.status == "True" then
  if obj.spec ~= nil and obj.spec.suspend == true then
    return answer("Suspended", "Suspended by spec.suspend: the broker keeps the events")
  end
  return answer("Healthy", said(ready))
end
if ready.status == "False" then
  return answer("Degraded", said(ready))
end
return answer("Progressing", said(ready))
